import numpy as np
import pytest

from tfdet import registry
from tfdet.errors import UserError
from tfdet.training import pretrained


def made(**changes):
    return registry.create("efficientdet-test", **{"num_classes": 2, **changes})


def test_a_file_gives_all_weights_to_the_same_model(tmp_path):
    source, target = made(), made()
    source.weights[0].assign(source.weights[0] + 1)
    source.save_weights(tmp_path / "a.weights.h5")
    sentence = pretrained.start_from(target, str(tmp_path / "a.weights.h5"))
    assert sentence.startswith("starting from all ")
    for ours, theirs in zip(target.weights, source.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_cannot_be_a_start_is_named(tmp_path):
    made(fpn_width=24).save_weights(tmp_path / "wide.weights.h5")
    (tmp_path / "weights.txt").write_text("x")
    for name, sentence in {
        "none.weights.h5": "do not exist",
        "weights.txt": "cannot be read as weights: it is of a kind that is not known",
        "wide.weights.h5": "of a training folder in its place, all weights that fit are taken",
    }.items():
        with pytest.raises(UserError, match=sentence):
            pretrained.start_from(made(), str(tmp_path / name))


def test_a_file_of_other_classes_gives_all_but_the_class_outputs(tmp_path):
    source, target = made(num_classes=5), made()
    source.weights[0].assign(source.weights[0] + 1)
    source.save_weights(tmp_path / "five.weights.h5")
    sentence = pretrained.start_from(target, str(tmp_path / "five.weights.h5"))
    assert "it is of 5 classes and the model of 2, so that the class outputs are new" in sentence
    same = 0
    for ours, theirs in zip(target.weights, source.weights, strict=True):
        if ours.shape == theirs.shape:
            np.testing.assert_array_equal(ours, theirs)
            same += 1
    assert 0 < len(target.weights) - same <= 2
