"""The training step that all detectors share."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import registry


def batch(size=64):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (2, size, size, 3)).astype(np.uint8)
    boxes = np.array([[[4, 6, 40, 44], [30, 20, 60, 62]], [[0, 0, 0, 0]] * 2], np.float32)
    return images, {"boxes": boxes, "labels": np.array([[1, 0], [-1, -1]], np.int32)}


def model_with(optimizer):
    keras.utils.set_random_seed(3)
    model = registry.create("efficientdet-test", weight_decay=0.01, num_classes=2)
    model.compile(optimizer=optimizer)
    return model


@pytest.mark.parametrize("scale", [1, 1024])
def test_step_follows_the_gradient_of_the_whole_loss(scale):
    optimizer = keras.optimizers.SGD(1.0, loss_scale_factor=None if scale == 1 else scale)
    model = model_with(optimizer)
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
