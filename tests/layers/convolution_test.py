import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers import convolution

CASES = {
    "plain": ("Conv2D", (4, 3), {"padding": "same"}),
    "strided": ("Conv2D", (4, (3, 5), 2), {"padding": "same", "activation": "relu"}),
    "dilated": ("Conv2D", (4, 3), {"dilation_rate": 2}),
    "grouped": ("Conv2D", (4, 1), {"groups": 2}),
    "without bias": ("Conv2D", (4, 1), {"use_bias": False}),
    "depthwise": ("DepthwiseConv2D", (3, 2), {"padding": "same"}),
    "dilated depthwise": ("DepthwiseConv2D", (3,), {"dilation_rate": 2, "padding": "same"}),
    "separable": ("SeparableConv2D", (4, 3), {"padding": "same"}),
    "strided separable": ("SeparableConv2D", (4, 3, 2), {"depth_multiplier": 2}),
}


def run(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(x))
        y = layer(x)
        loss = tf.reduce_sum(tf.cast(y, "float32") ** 2)
    return y, tape.gradient(loss, [x, *(v.value for v in layer.weights)])


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_are_those_of_keras(case):
    name, arguments, options = CASES[case]
    ours = getattr(convolution, name)(*arguments, bias_initializer="ones", **options)
    theirs = getattr(keras.layers, name)(*arguments, bias_initializer="ones", **options)
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 6)).astype("float32")
    theirs(x), ours(x)
    ours.set_weights(theirs.get_weights())
    (y, gradients), (expected, slow) = (run(layer, x) for layer in (ours, theirs))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(gradients, slow, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert ours(keras.KerasTensor(x.shape)).shape == y.shape
    assert type(ours).from_config(ours.get_config()).get_config() == ours.get_config()


@pytest.mark.parametrize("name", ["Conv2D", "SeparableConv2D"])
def test_half_precision_stays_half(name):
    layer = getattr(convolution, name)(4, 3, dtype="mixed_bfloat16")
    y, gradients = run(layer, np.ones((1, 5, 5, 3), "float32"))
    assert y.dtype == "bfloat16" and layer.bias.dtype == "float32"
    assert all(g.dtype == "float32" for g in gradients)
