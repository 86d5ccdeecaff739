"""Ways to run commands, and a folder as `tfdet-train` leaves it, without the training."""

import importlib
import pathlib
import re

import pytest

from tfdet import config, registry
from tfdet.training import trained


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> pathlib.Path:
    """Training folder of a tiny EfficientDet for `shapes`, with random weights."""
    folder = tmp_path_factory.mktemp("run")
    changes = {
        "model.name": "efficientdet-test",
        "model.max_level": 5,
        "model.num_classes": 5,
        "model.class_names": ["circle", "square", "triangle", "star", "cross"],
        "model.class_ids": [1, 2, 3, 4, 5],
        "data.train": "shapes:train",
        "data.val": "shapes:val:20",
    }
    recipe = config.make_recipe(changes=changes)
    config.save_recipe(recipe, folder / trained.RECIPE_FILE)
    settings = {key: value for key, value in recipe.model.items() if key != "name"}
    model = registry.create("efficientdet-test", **settings)
    model.save_weights(folder / "last.weights.h5")
    return folder


@pytest.fixture
def run(capsys, forget_gradients):
    """Runs a command; gives its exit code, its output and the lines of its errors."""

    def call(command: str, *argv: object):
        module = importlib.import_module(f"tfdet.cli.{command}")
        code = module.COMMAND.run(module.main, [str(word) for word in argv])
        forget_gradients()
        output, errors = capsys.readouterr()
        for line in errors.splitlines():  # each is a sentence or says how far a loop is
            assert line.startswith(f"tfdet-{command}: ") or re.match(r"\d+/\d+ images", line), line
        return code, output, errors.splitlines()

    return call


@pytest.fixture
def refused(run):
    """Runs a command that must fail with one sentence, its last, that holds all given pieces."""

    def call(command: str, argv, *pieces: str, code: int = 1):
        found, _, errors = run(command, *argv)
        assert found == code
        assert errors, "a failure without a word"
        for piece in pieces:
            assert piece in errors[-1]

    return call
