import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers.symmetric import (
    SymmetricConv2D,
    SymmetricDepthwiseConv2D,
    SymmetricMaxPooling2D,
)
from tfdet.ops import portable


def slow_windows(x, size, strides, fill):
    """[H', W', size, size, C]: what each output sees, padded by half a window on each side."""
    half = size // 2
    x = np.pad(x, ((half, half), (half, half), (0, 0)), constant_values=fill)
    rows = range(0, x.shape[0] - size + 1, strides)
    columns = range(0, x.shape[1] - size + 1, strides)
    return np.array([[x[i : i + size, j : j + size] for j in columns] for i in rows])


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("shape", [(8, 10), (7, 9)])
def test_equal_to_sums_over_windows(size, strides, shape):
    x = np.random.default_rng(0).normal(size=(*shape, 3)).astype(np.float32)
    conv = SymmetricConv2D(5, size, strides=strides, use_bias=False)
    depthwise = SymmetricDepthwiseConv2D(size, strides=strides, use_bias=False)
    pool = SymmetricMaxPooling2D(size, strides)
    seen = slow_windows(x, size, strides, 0)
    found = conv(x[None])
    np.testing.assert_allclose(found[0], np.einsum("hwijc,ijcf->hwf", seen, conv.kernel), atol=1e-4)
    found = depthwise(x[None])
    expected = np.einsum("hwijc,ijc->hwc", seen, np.array(depthwise.kernel)[..., 0])
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    expected = slow_windows(x, size, strides, -np.inf).max(axis=(2, 3))
    np.testing.assert_array_equal(pool(x[None])[0], expected)


@pytest.mark.parametrize("shape", [(8, 10), (7, 9)])
def test_dilated_windows_are_centred_too(shape):
    x = np.random.default_rng(0).normal(size=(*shape, 3)).astype(np.float32)
    conv = SymmetricConv2D(5, 3, dilation_rate=2, use_bias=False)
    depthwise = SymmetricDepthwiseConv2D(3, dilation_rate=2, use_bias=False)
    seen = slow_windows(x, 5, 1, 0)[:, :, ::2, ::2]
    found = conv(x[None])
    np.testing.assert_allclose(found[0], np.einsum("hwijc,ijcf->hwf", seen, conv.kernel), atol=1e-4)
    found = depthwise(x[None])
    expected = np.einsum("hwijc,ijc->hwc", seen, np.array(depthwise.kernel)[..., 0])
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        SymmetricConv2D(5, 3, strides=2),
        SymmetricConv2D(5, 3, dilation_rate=2),
        SymmetricMaxPooling2D(3, 2),
    ],
)
def test_symbolic_shapes_are_the_real_ones(layer):
    for size in ((8, 10), (7, 9)):
        symbolic = layer(keras.KerasTensor((2, *size, 3)))
        assert tuple(symbolic.shape) == tuple(layer(np.zeros((2, *size, 3), np.float32)).shape)
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("shape", [(40, 50), (41, 51)])
def test_gradients_of_a_depthwise_kernel_are_those_with_a_padded_map(shape, dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *shape, 8)).astype(np.float32)
    layer = SymmetricDepthwiseConv2D(3, strides=2, dtype=dtype)
    # In the same type: some processors add up in bfloat16, with errors of a few percent.
    plain = keras.layers.DepthwiseConv2D(3, strides=2, padding="valid", dtype=dtype)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    weights = rng.normal(size=plain(padded).shape).astype(np.float32)
    layer(x)
    layer.set_weights(plain.get_weights())
    found, expected = (
        kernel_gradient(model, inputs, weights) for model, inputs in ((layer, x), (plain, padded))
    )
    scale = np.max(np.abs(expected))
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    np.testing.assert_allclose(found, expected, atol=tolerance * scale)


def kernel_gradient(layer, inputs, weights):
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.cast(layer(inputs), tf.float32) * weights)
    return tape.gradient(total, layer.kernel.value)


def test_padding_of_its_own_changes_nothing_but_the_graph():
    x = np.random.default_rng(0).normal(size=(1, 8, 10, 3)).astype(np.float32)
    depthwise = SymmetricDepthwiseConv2D(3, strides=2, use_bias=False)
    expected, paddings = depthwise(x), []
    for context in (contextlib.nullcontext(), portable.operations()):
        with context:
            graph = tf.function(lambda x: depthwise(x), autograph=False).get_concrete_function(
                tf.TensorSpec(x.shape)
            )
            found = depthwise(x)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        nodes = graph.graph.as_graph_def().node
        paddings += [n.attr["padding"].s for n in nodes if n.op == "DepthwiseConv2dNative"]
    assert paddings == [b"EXPLICIT", b"VALID"]
