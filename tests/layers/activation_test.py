import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers.activation import activation, gelu
from tfdet.ops import portable


@pytest.mark.parametrize(
    ("name", "at_minus_1", "at_8"),
    [
        ("swish", -1 / (1 + np.e), 8 / (1 + np.exp(-8))),
        ("hswish", -1 * 2 / 6, 8),
        ("relu", 0, 8),
        ("relu6", 0, 6),
        ("leaky_relu", -0.2, 8),
        ("mish", -np.tanh(np.log1p(np.exp(-1))), 8),
    ],
)
def test_names_mean_what_the_papers_say(name, at_minus_1, at_8):
    values = activation(name)(np.array([-1, 8], "float32"))
    np.testing.assert_allclose(values, [at_minus_1, at_8], atol=1e-5)


def test_unknown_names_are_listed():
    with pytest.raises(ValueError, match=r"'swich'; use one of swish"):
        activation("swich")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradient_of_silu_is_that_of_keras(dtype):
    x = tf.cast(np.linspace(-9, 9, 37), dtype)
    gradients = []
    for function in (activation("silu"), keras.activations.silu):

        @tf.function(autograph=False)
        def gradient(x, function=function):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = 2.0 * function(x)
            return tape.gradient(y, x)

        gradients.append(tf.cast(gradient(x), "float32"))
    atol = 1e-6 if dtype == "float32" else 0.03
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("name", ["swish", "silu", "hswish", "relu", "relu6", "leaky_relu", "mish"])
def test_every_activation_builds_a_graph_of_symbols(name):
    x = keras.KerasTensor((1, 2, 2, 3))
    assert activation(name)(x).shape == x.shape


def test_gelu_for_other_runtimes_has_the_same_values_and_no_erfc():
    function = tf.function(gelu, autograph=False)
    x = tf.linspace(-6.0, 6.0, 97)
    expected = function(x)
    with portable.operations():
        graph = tf.function(gelu, autograph=False).get_concrete_function(x).graph
        np.testing.assert_allclose(gelu(x), expected, atol=1e-6)
    assert "Erf" in {node.type for node in graph.get_operations()}
    assert "Erfc" not in {node.type for node in graph.get_operations()}
