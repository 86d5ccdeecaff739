import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers.group_norm import GroupNormalization


def outputs_and_gradients(kind, inputs, upstream):
    layer = kind(4, epsilon=1e-5, name="norm")
    layer.build(inputs.shape)
    layer.gamma.assign(np.linspace(0.5, 2, 16))
    layer.beta.assign(np.linspace(-1, 1, 16))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
        loss = tf.reduce_sum(outputs * upstream)
    return [outputs, *tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value])]


@pytest.mark.parametrize("shape", [(2, 5, 3, 16), (1, 1, 1, 16), (0, 2, 2, 16)])
def test_outputs_and_gradients_are_those_of_keras(shape):
    random = np.random.default_rng(0)
    inputs, upstream = (tf.constant(random.normal(3, 2, shape), tf.float32) for _ in range(2))
    expected = outputs_and_gradients(keras.layers.GroupNormalization, inputs, upstream)
    found = outputs_and_gradients(GroupNormalization, inputs, upstream)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-4)


def test_maps_of_unknown_size_are_normed_too():
    layer = GroupNormalization(4, name="norm")
    layer.build((None, None, None, 16))
    run = tf.function(
        layer, input_signature=[tf.TensorSpec((None, None, None, 16))], autograph=False
    )
    inputs = np.random.default_rng(0).normal(size=(2, 3, 5, 16)).astype(np.float32)
    np.testing.assert_allclose(run(inputs), layer(inputs), rtol=1e-4, atol=1e-5)
