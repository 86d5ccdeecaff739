import numpy as np
import pytest

from tests.weights import fake_source, torch_files
from tfdet import config, registry
from tfdet.errors import UserError
from tfdet.training import pretrained, trained, trainer


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
        "weights.txt": "cannot be read as weights: it is a text",
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


@pytest.fixture
def foreign(monkeypatch, tmp_path):
    fake_source.install(monkeypatch)
    torch_files.save(fake_source.checkpoint(made(num_classes=4)), tmp_path / "x.pth")
    return str(tmp_path / "x.pth")


def test_weights_of_another_project_set_the_keys_of_the_model_and_not_its_classes(foreign):
    changes = {"model.name": "efficientdet-test", "train.pretrained": foreign}
    recipe = pretrained.with_settings(config.make_recipe(changes=changes))
    wanted = {"activation": "relu6", "nms": {"max_detections": 60}}
    assert recipe.model == {"name": "efficientdet-test", **wanted}
    assert pretrained.with_settings(recipe) == recipe
    for changed, sentence in {
        "model.activation": "is for activation='relu6', and activation='swish'",
        "train.pretrained": "do not exist",
    }.items():
        with pytest.raises(UserError, match=sentence):
            pretrained.with_settings(config.make_recipe(changes={**changes, changed: "swish"}))


def test_a_training_from_them_loads_again(foreign, tmp_path, capsys):
    changes = {
        "model.name": "efficientdet-test",
        "data.train": "shapes:train:4",
        "train.pretrained": foreign,
        **{"train.batch_size": 2, "train.num_epochs": 1, "train.warmup_epochs": 0.0},
        **{"train.learning_rate": 0.0, "train.warmup_init": 0.0},
    }
    trainer.train(config.make_recipe(changes=changes), tmp_path / "run", measure=False)
    said = capsys.readouterr().out
    assert "it is of 4 classes and the model of 5, so that the class outputs are new" in said
    model = trained.load_trained(tmp_path / "run")
    assert (model.config.activation, model.num_classes) == ("relu6", 5)
    theirs = fake_source.checkpoint(made(num_classes=4))["net.backbone.stem_conv.kernel"]
    np.testing.assert_array_equal(model.backbone.stem_conv.kernel, theirs)
