"""Folded convolutions compute what the layers do that they were made of."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers.batch_norm import batch_norm
from tfdet.layers.folding import folded
from tfdet.ops import conditional

RNG = np.random.default_rng(0)
X = tf.constant(RNG.normal(size=(2, 5, 7, 6)), tf.float32)


def with_norm(layer):
    """The layer and a batch norm behind it, with statistics other than at the start."""
    norm = batch_norm("plain", "bn", epsilon=1e-2)
    norm(layer(X))
    for variable in norm.variables:
        variable.assign(RNG.uniform(0.5, 1.5, variable.shape))
    return layer, norm


@pytest.mark.parametrize("is_constant", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize(
    ("make", "run"),
    [
        (lambda bias: keras.layers.Conv2D(4, 1, 2, use_bias=bias), lambda f: f.pointwise(X, 2)),
        (
            lambda bias: keras.layers.DepthwiseConv2D(3, padding="same", use_bias=bias),
            lambda f: f.depthwise(X),
        ),
        (
            lambda bias: keras.layers.Conv2D(4, 1, use_bias=bias),
            lambda f: tf.reshape(f.rows(tf.reshape(X, [-1, 6])), [2, 5, 7, 4]),
        ),
    ],
    ids=["pointwise", "depthwise", "rows"],
)
def test_a_convolution_and_its_norm_are_one(make, run, use_bias, is_constant):
    layer, norm = with_norm(make(use_bias))
    if use_bias:
        layer.bias.assign(RNG.normal(size=layer.bias.shape))
    if is_constant:
        with conditional.constant_branches():
            found = folded(layer, norm)
        assert isinstance(found.kernel, np.ndarray)
        assert found.kernel.dtype == np.float32
    else:
        found = folded(layer, norm)
    np.testing.assert_allclose(run(found), norm(layer(X)), rtol=1e-5, atol=1e-5)


def test_a_layer_alone_is_itself():
    layer = keras.layers.Dense(3)
    rows = X[:, 0, 0]
    expected = layer(rows)
    np.testing.assert_allclose(folded(layer).rows(rows), expected, rtol=1e-6)
