import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers.deformable_conv import DeformableConv2D
from tfdet.layers.symmetric import SymmetricConv2D
from tfdet.ops import counting


def image(height=6, width=7, channels=4):
    return np.random.default_rng(0).normal(size=(2, height, width, channels)).astype(np.float32)


def pixel(x, row, column):
    inside = 0 <= row < x.shape[0] and 0 <= column < x.shape[1]
    return x[row, column] if inside else np.zeros(x.shape[-1])


def slow_sample(x, y, column):
    """Bilinear value of one point of x [H, W, C]; 0 outside."""
    top, left = math.floor(y), math.floor(column)
    dy, dx = y - top, column - left
    return (
        (1 - dy) * (1 - dx) * pixel(x, top, left)
        + (1 - dy) * dx * pixel(x, top, left + 1)
        + dy * (1 - dx) * pixel(x, top + 1, left)
        + dy * dx * pixel(x, top + 1, left + 1)
    )


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_without_offsets_and_with_open_masks_it_is_a_convolution(strides, groups):
    layer = DeformableConv2D(6, 3, strides, groups, use_bias=True)
    layer(image())
    layer.offset.kernel.assign(keras.ops.zeros_like(layer.offset.kernel))
    layer.offset.bias.assign(np.r_[np.zeros(18), np.full(9, 30.0)])
    layer.bias.assign(np.arange(6.0))
    plain = SymmetricConv2D(6, 3, strides=strides, groups=groups)
    plain(image())
    plain.set_weights([layer.kernel, layer.bias])
    np.testing.assert_allclose(layer(image()), plain(image()), atol=1e-5)


@pytest.mark.parametrize(("strides", "groups"), [(1, 1), (2, 2)])
def test_equal_to_the_slow_way(strides, groups):
    layer = DeformableConv2D(6, 3, strides, groups)
    layer(image())
    layer.offset.kernel.assign(5 * layer.offset.kernel)
    found = np.array(layer(image()))
    predicted = np.array(layer.offset(image()))
    kernel = np.array(layer.kernel)
    for b, row, column in [(0, 0, 0), (1, 2, 1), (1, found.shape[1] - 1, found.shape[2] - 1)]:
        offsets = predicted[b, row, column, :18].reshape(9, 2)
        masks = 1 / (1 + np.exp(-predicted[b, row, column, 18:]))
        total = np.zeros(6)
        for tap in range(9):
            y = row * strides + tap // 3 - 1 + offsets[tap, 0]
            x = column * strides + tap % 3 - 1 + offsets[tap, 1]
            value = masks[tap] * slow_sample(image()[b], y, x)
            for group, part in enumerate(np.split(value, groups)):
                of = slice(group * 6 // groups, (group + 1) * 6 // groups)
                total[of] += part @ kernel[tap // 3, tap % 3, :, of]
        np.testing.assert_allclose(found[b, row, column], total, rtol=1e-4, atol=1e-4)


def test_every_weight_and_the_input_have_a_gradient():
    layer = DeformableConv2D(6, use_bias=True)
    x = tf.constant(image())
    layer(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x) ** 2)
    values = [v.value for v in layer.trainable_variables]
    for gradient in tape.gradient(loss, [x, *values]):
        assert np.abs(gradient).max() > 0


def test_work_is_that_of_the_two_convolutions():
    layer = DeformableConv2D(6, 3, 2, 2, use_bias=True)
    counted = counting.operations(layer, (1, 6, 8, 4), (1, 3, 4, 6))
    assert counted == (12 * 6 * 2 * 9, 12 * 6 * 2 * 9 + 12 * 6)
    assert DeformableConv2D.from_config(layer.get_config()).get_config() == layer.get_config()
