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
    assert sentence.startswith("starting from all weights")
    for ours, theirs in zip(target.weights, source.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_cannot_be_a_start_is_named(tmp_path):
    made(num_classes=3).save_weights(tmp_path / "other.weights.h5")
    (tmp_path / "weights.txt").write_text("x")
    for name, sentence in {
        "none.weights.h5": "do not exist",
        "weights.txt": "must be a training folder or a .weights.h5 file",
        "other.weights.h5": "of a training folder in its place, all weights that fit are taken",
    }.items():
        with pytest.raises(UserError, match=sentence):
            pretrained.start_from(made(), str(tmp_path / name))
