"""Folded convolutions compute what the layers do that they were made of."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers.batch_norm import batch_norm
from tfdet.layers.folding import exact, folded, in_place_of, normed, scale_and_shift
from tfdet.layers.gate_router import GateRouter
from tfdet.layers.separable_unit import SeparableUnit
from tfdet.ops import conditional

RNG = np.random.default_rng(0)
X = tf.constant(RNG.normal(size=(2, 5, 7, 6)), tf.float32)
LAYERS = {
    "pointwise": lambda **bias: keras.layers.Conv2D(4, 1, 2, **bias),
    "dense": lambda **bias: keras.layers.Dense(4, **bias),
    "depthwise": lambda **bias: keras.layers.DepthwiseConv2D(3, padding="same", **bias),
    "full": lambda **bias: keras.layers.Conv2D(4, 3, padding="same", **bias),
}


def never(*_, **__):
    raise AssertionError("a layer ran whose numbers were to stand for it")


def with_norm(layer):
    """The layer and a batch norm behind it, with statistics other than at the start."""
    norm = batch_norm("plain", "bn", epsilon=1e-2)
    norm(layer(X))
    for variable in norm.variables:
        variable.assign(RNG.uniform(0.5, 1.5, variable.shape))
    if layer.use_bias:
        layer.bias.assign(RNG.normal(size=layer.bias.shape))
    return layer, norm


@pytest.mark.parametrize("is_constant", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_and_its_norm_are_one(kind, use_bias, is_constant, monkeypatch):
    layer, norm = with_norm(LAYERS[kind](use_bias=use_bias))
    if is_constant:
        with conditional.constant_branches():
            found = folded(layer, norm, conditional.value_of)
        assert isinstance(found.kernel, np.ndarray)
        assert found.kernel.dtype == np.float32
    else:
        found = folded(layer, norm, conditional.value_of)
    expected = normed(layer, norm, X)
    np.testing.assert_array_equal(expected, norm(layer(X)))
    for part in (layer, norm):
        monkeypatch.setattr(part, "call", never)
    with in_place_of({layer: found}):
        np.testing.assert_allclose(normed(layer, norm, X), expected, rtol=1e-5, atol=1e-5)


def test_a_layer_alone_is_itself():
    layer = keras.layers.Dense(3)
    expected = layer(X)
    np.testing.assert_array_equal(normed(layer, None, X), expected)
    with in_place_of({layer: folded(layer)}):
        np.testing.assert_allclose(normed(layer, None, X), expected, rtol=1e-6)


def test_numbers_are_of_float64_where_nothing_else_is_asked_for():
    layer, norm = with_norm(LAYERS["full"](use_bias=False))
    kernel, bias = folded(layer, norm)
    assert kernel.dtype == bias.dtype == np.float64
    scale, shift = scale_and_shift(norm)
    np.testing.assert_array_equal(kernel, exact(layer.kernel) * scale)
    np.testing.assert_array_equal(bias, shift)
    few = X[..., :4]
    np.testing.assert_allclose(few * scale + shift, norm(few), rtol=1e-5, atol=1e-5)


def lively(layer):
    """The layer, built, with variables other than at the start."""
    layer(X)
    for variable in layer.variables:
        if "kernel" not in variable.name:
            variable.assign(RNG.uniform(0.5, 1.5, variable.shape))
    return layer


@pytest.mark.parametrize(
    ("make", "pairs"),
    [
        (lambda: SeparableUnit(6), {"depthwise": None, "pointwise": "bn"}),
        (
            lambda: SeparableUnit(6, inner_norm=True),
            {"depthwise": "depthwise_bn", "pointwise": "bn"},
        ),
        (lambda: GateRouter(3), {"hidden": "bn", "score": None}),
        (lambda: GateRouter(3, function="sigmoid"), {"hidden": "bn", "score": None}),
    ],
    ids=["unit", "unit with inner norm", "router", "sigmoid router"],
)
def test_layers_of_the_grid_run_folded(make, pairs, monkeypatch):
    layer = lively(make())
    expected = layer(X)
    folds = {}
    for conv, norm in pairs.items():
        conv, norm = getattr(layer, conv), norm and getattr(layer, norm)
        folds[conv] = folded(conv, norm)
        monkeypatch.setattr(conv, "call", never)
    with in_place_of(folds):
        np.testing.assert_allclose(layer(X), expected, rtol=1e-4, atol=1e-4)
