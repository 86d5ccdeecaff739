"""The training step that all detectors share."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import registry
from tfdet.detectors.dynamicdet import DynamicDetector
from tfdet.detectors.efficientdet import EfficientDet
from tfdet.errors import UserError
from tfdet.training.wrapper import TrainingWrapper


def batch(size=64):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (2, size, size, 3)).astype(np.uint8)
    boxes = np.array([[[4, 6, 40, 44], [30, 20, 60, 62]], [[0, 0, 0, 0]] * 2], np.float32)
    return images, {"boxes": boxes, "labels": np.array([[1, 0], [-1, -1]], np.int32)}


@pytest.mark.parametrize("scale", [1, 1024])
def test_step_follows_the_gradient_of_the_whole_loss(make, scale):
    optimizer = keras.optimizers.SGD(1.0, loss_scale_factor=None if scale == 1 else scale)
    model = make("efficientdet-test", weight_decay=0.01, num_classes=2)
    # Once as a graph; the other tests need no more than what a step does.
    model.compile(optimizer=optimizer, run_eagerly=scale != 1)
    images, targets = batch()
    variables = model.trainable_variables
    before = [v.numpy() for v in variables]
    moving = [v.numpy() for v in model.non_trainable_variables]
    with tf.GradientTape() as tape:
        loss = model.compute_loss(images, targets, model(images, training=True))
    expected = tape.gradient(loss, variables)
    for variable, value in zip(model.non_trainable_variables, moving, strict=True):
        variable.assign(value)
    model.reset_metrics()
    logs = model.train_on_batch(images, targets, return_dict=True)
    assert logs["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert logs["l2_loss"] > 0.1
    for variable, value, gradient in zip(variables, before, expected, strict=True):
        moved = value - variable.numpy()
        np.testing.assert_allclose(moved, gradient, rtol=1e-3, atol=1e-4, err_msg=variable.path)


def test_evaluate_reports_the_loss_that_a_step_computes():
    """Of a detector whose forward pass is the same in training."""
    keras.utils.set_random_seed(3)
    model = registry.create("fcos-test", num_classes=2, batch_norm="frozen", weight_decay=0.01)
    model.compile(optimizer=keras.optimizers.SGD(0.0), run_eagerly=True)
    images, targets = batch()
    fitted = model.train_on_batch(images, targets, return_dict=True)
    model.reset_metrics()
    evaluated = model.evaluate(images, targets, batch_size=2, verbose=0, return_dict=True)
    assert evaluated.keys() == fitted.keys() == {"loss", *model.loss_names}
    for name, value in evaluated.items():
        assert value == pytest.approx(fitted[name], rel=1e-5), name
    assert evaluated["loss"] == pytest.approx(sum(evaluated[name] for name in model.loss_names))


class _Twice(EfficientDet):
    """Of the whole loss, L2 included."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 2.0 * super().compute_loss(x, y, y_pred, sample_weight, training)


class _Own(EfficientDet):
    """Without the terms, and without L2: one kernel shall be 1. Keras allows fewer arguments."""

    def compute_loss(self, x, y, y_pred, sample_weight=None):
        return keras.ops.sum(keras.ops.square(self.trainable_variables[0] - 1.0))


def _step(kind):
    keras.utils.set_random_seed(3)
    config = registry.config("efficientdet-test", weight_decay=0.01, num_classes=2)
    model = kind.from_record(config, "efficientdet-test")
    model.build_variables()
    model.compile(optimizer=keras.optimizers.SGD(0.125), run_eagerly=True)
    before = [v.numpy() for v in model.trainable_variables]
    logs = model.train_on_batch(*batch(), return_dict=True)
    moves = [v.numpy() - x for v, x in zip(model.trainable_variables, before, strict=True)]
    return model, logs, before, moves


def test_fit_minimises_what_compute_loss_of_a_subclass_returns():
    _, logs, _, moves = _step(EfficientDet)
    _, doubled, _, doubled_moves = _step(_Twice)
    assert doubled["loss"] == pytest.approx(2 * logs["loss"], rel=1e-5)
    assert doubled["l2_loss"] == pytest.approx(logs["l2_loss"], rel=1e-6)
    for one, two in zip(moves, doubled_moves, strict=True):
        np.testing.assert_allclose(two, 2 * one, rtol=1e-3, atol=1e-5)


def test_fit_adds_no_decay_to_a_loss_that_has_none():
    model, logs, before, moves = _step(_Own)
    assert logs["loss"] == pytest.approx(np.sum((before[0] - 1) ** 2), rel=1e-5)
    np.testing.assert_allclose(moves[0], -0.25 * (before[0] - 1), rtol=1e-4)
    assert not any(np.any(move) for move in moves[1:])
    evaluated = model.evaluate(*batch(), verbose=0, return_dict=True)["loss"]
    assert evaluated == pytest.approx(np.sum((before[0] + moves[0] - 1) ** 2), rel=1e-5)


def test_a_whole_refuses_parts_with_a_loss_that_it_would_not_call():
    part = _Own.from_record(registry.config("efficientdet-test"), "part")
    message = "_Own overrides compute_loss, which {} would not call; override loss_terms"
    with pytest.raises(UserError, match=message.format("TrainingWrapper")):
        TrainingWrapper(part, (), "wrapper")
    with pytest.raises(UserError, match=message.format("DynamicDetector")):
        DynamicDetector(part, registry.create("efficientdet-test"))


def test_xla_is_left_to_accelerators_unless_it_is_asked_for():
    model = registry.create("fcos-test")
    compiles_itself = bool(tf.config.list_physical_devices("GPU"))
    model.compile(optimizer="sgd")
    assert model.jit_compile is compiles_itself
    assert registry.create("fcos-test").jit_compile is compiles_itself  # for `predict`
    model.compile(optimizer="sgd", jit_compile=True)
    assert model.jit_compile is True
