"""A folder as `tfdet-train` leaves it, without the training."""

import pathlib

import pytest

from tfdet import config, registry
from tfdet.training import trained


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> pathlib.Path:
    """Training folder of a tiny EfficientDet for `shapes`, with random weights."""
    folder = tmp_path_factory.mktemp("run")
    changes = {
        "model.name": "efficientdet-test",
        "model.num_classes": 5,
        "model.class_names": ["circle", "square", "triangle", "star", "cross"],
        "model.class_ids": [1, 2, 3, 4, 5],
        "data.train": "shapes:train",
        "data.val": "shapes:val",
    }
    recipe = config.make_recipe(changes=changes)
    config.save_recipe(recipe, folder / trained.RECIPE_FILE)
    settings = {key: value for key, value in recipe.model.items() if key != "name"}
    model = registry.create("efficientdet-test", **settings)
    model.save_weights(folder / "last.weights.h5")
    return folder
