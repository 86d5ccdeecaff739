import pytest

from tfdet import config, registry
from tfdet.errors import UserError
from tfdet.training import trained
from tfdet.weights import stored


def folder_with(tmp_path, *weights, seed=0):
    recipe = config.make_recipe(changes={"model.name": "efficientdet-test", "model.num_classes": 2})
    config.save_recipe(recipe, tmp_path / trained.RECIPE_FILE)
    for i, name in enumerate(weights):
        model = registry.create("efficientdet-test", num_classes=2)
        model.weights[0].assign(model.weights[0] * 0 + i)
        stored.save(model, tmp_path / f"{name}.weights.h5")
    return tmp_path


def test_the_best_weights_are_taken_unless_the_last_are_wanted(tmp_path):
    folder = folder_with(tmp_path, "best", "last")
    for which, value in (("best", 0), ("last", 1)):
        model = trained.load_trained(folder, which, changes={"nms.max_detections": 7})
        assert float(model.weights[0].numpy().max()) == value
        assert (model.num_classes, model.config.nms.max_detections) == (2, 7)


def test_what_is_missing_in_a_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        trained.load_trained(tmp_path / "none")
    with pytest.raises(UserError, match=r"not a training folder: it has no recipe\.yaml"):
        trained.load_trained(tmp_path)
    with pytest.raises(UserError, match="has no weights yet"):
        trained.load_trained(folder_with(tmp_path))


def test_damaged_weights_are_told(tmp_path):
    folder = folder_with(tmp_path, "last")
    path = folder / "last.weights.h5"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"last\.weights\.h5 is damaged"):
        trained.load_trained(folder)


def test_a_calibration_that_cannot_be_read_is_told(tmp_path):
    assert trained.read_calibration(tmp_path, "best.weights.h5") is None
    (tmp_path / trained.CALIBRATION_FILE).write_text("{")
    with pytest.raises(UserError, match=r"cannot be read .*; calibrate again"):
        trained.read_calibration(tmp_path, "best.weights.h5")


def test_weights_are_the_best_or_the_last(tmp_path):
    with pytest.raises(UserError, match="which must be 'best' or 'last', got 'latest'"):
        trained.weights_file(tmp_path, "latest")
