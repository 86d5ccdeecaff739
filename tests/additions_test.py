import subprocess
import sys

import keras
import numpy as np
import pytest

from tfdet import additions, config, registry
from tfdet.errors import UserError
from tfdet.training.wrapper import TrainingWrapper


class _Pulled(TrainingWrapper):
    """Adds the square of the distance of one variable from a value."""

    def __init__(self, inner, value):
        super().__init__(inner, ("pull_loss",), "pulled")
        self._value = value

    def loss_terms(self, targets, raw, training=False):
        variable = self.detector.trainable_variables[0]
        distance = keras.ops.sum(keras.ops.square(variable - self._value))
        return {**super().loss_terms(targets, raw, training), "pull_loss": distance}


@pytest.fixture
def pull(monkeypatch):
    """A key `train.pull_to` that no package of tfdet has."""
    monkeypatch.setattr(additions, "_additions", dict(additions.kinds() and additions._additions))
    additions.register(
        additions.Addition(
            "pull_to",
            float | None,
            None,
            lambda detector, value, seed: detector if value is None else _Pulled(detector, value),
            describe=lambda value: "" if value is None else f"pulled to {value:g}",
        )
    )


def test_a_registered_key_is_read_wrapped_and_trained(pull):
    settings = config.make_recipe(["train.pull_to=2.0,train.gamma_l1=1e-5"]).train
    assert settings.additions["pull_to"] == 2.0
    assert additions.describe(settings.additions) == " pulled to 2"
    detector = registry.create("fcos-test", num_classes=2, batch_norm="plain", frozen_stages=0)
    model = additions.wrapped(detector, settings.additions, settings.seed)
    assert type(model) is _Pulled and type(model.inner).__name__ == "SparseGammas"
    model.compile(optimizer=keras.optimizers.SGD(0.01), jit_compile=False)
    images = np.zeros((1, *detector.image_size, 3), np.uint8)
    boxes = np.array([[[4, 6, 40, 44]]], np.float32)
    targets = {"boxes": boxes, "labels": np.array([[1]], np.int32)}
    before = float(keras.ops.mean(detector.trainable_variables[0]))
    logs = model.train_on_batch(images, targets, return_dict=True)
    assert logs["pull_loss"] > 0 and logs["gamma_loss"] > 0
    assert float(keras.ops.mean(detector.trainable_variables[0])) > before


def test_an_unknown_key_is_an_error_that_knows_the_registered_ones(pull):
    with pytest.raises(UserError, match=r"did you mean 'pull_to'"):
        config.make_recipe(["train.pull_too=1"])
    with pytest.raises(UserError, match=r"no addition 'push'; known: .*pull_to"):
        config.TrainConfig(additions={"push": 1})
    with pytest.raises(ValueError, match=r"train\.pull_to is registered twice"):
        additions.register(additions.Addition("pull_to", float, 0.0, lambda *args: args[0]))


def test_every_addition_may_prepare_a_measurement(pull, monkeypatch):
    seen = []
    row = additions.Addition(
        "watched", bool, True, lambda *args: args[0], before_measuring=lambda *a: seen.append(a)
    )
    additions.register(row)
    additions.before_measuring("detector", config.TrainConfig().additions, "batches")
    assert seen == [("detector", True, "batches")]


def test_packages_are_imported_when_a_recipe_is_made_and_not_before():
    code = (
        "import sys, tfdet; assert not {'tfdet.nas', 'keras'} & {*sys.modules};"
        "from tfdet import config; assert 'tfdet.nas' not in sys.modules;"
        "config.TrainConfig(); assert 'tfdet.nas' in sys.modules;"
        "assert 'tfdet.training' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
