"""Batch norms behind depthwise convolutions go into their kernels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers.batch_norm import batch_norm
from tfdet.serving import depthwise_folding, network

RNG = np.random.default_rng(0)


def net(multiplier=1, between=None):
    """A depthwise convolution and a batch norm, with statistics other than at the start."""
    layers = [keras.layers.DepthwiseConv2D(3, depth_multiplier=multiplier, use_bias=False)]
    layers += [between] if between else []
    model = keras.Sequential([*layers, batch_norm("plain", "bn", epsilon=1e-2)])
    model.build((None, 9, 8, 6))
    for variable in model.layers[-1].variables:
        variable.assign(RNG.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.mark.parametrize("multiplier", [1, 2])
def test_outputs_are_the_same_and_the_products_gone(multiplier):
    model, x = net(multiplier), tf.constant(RNG.normal(size=(2, 9, 8, 6)), tf.float32)
    concrete = tf.function(
        lambda x: model(x, training=False), autograph=False
    ).get_concrete_function(x)
    graph = network._without_variables(concrete)
    assert depthwise_folding.fold(graph) == 1
    inputs = [node.input[0] for node in graph.node if node.op == "Mul" and len(node.input) == 2]
    assert not any("depthwise" in name for name in inputs)
    frozen = network.frozen(lambda x: model(x, training=False), tf.TensorSpec(x.shape))
    np.testing.assert_allclose(frozen(x), model(x, training=False), rtol=1e-5, atol=1e-5)


def test_what_something_else_reads_is_left_alone():
    convolution = net().layers[0]

    def both(x):
        y = convolution(x)
        return y * tf.range(1.0, 7.0), y

    spec = tf.TensorSpec((1, 9, 8, 6))
    graph = network._without_variables(
        tf.function(both, autograph=False).get_concrete_function(spec)
    )
    assert depthwise_folding.fold(graph) == 0


def test_a_norm_behind_an_activation_is_left_alone():
    model = net(between=keras.layers.ReLU())
    concrete = tf.function(
        lambda x: model(x, training=False), autograph=False
    ).get_concrete_function(tf.TensorSpec((1, 9, 8, 6)))
    assert depthwise_folding.fold(network._without_variables(concrete)) == 0


def test_the_factor_may_come_from_the_run():
    convolution = net().layers[0]
    function = tf.function(lambda x, factor: convolution(x) * factor, autograph=False)
    specs = (tf.TensorSpec((1, 9, 8, 6)), tf.TensorSpec((6,)))
    graph = network._without_variables(function.get_concrete_function(*specs))
    assert depthwise_folding.fold(graph) == 0
