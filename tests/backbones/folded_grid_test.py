"""The folded grid's parts compute what its layers do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.backbones.folded_grid import FoldedGrid, FoldedRouter, FoldedUnit
from tfdet.backbones.grid import SupernetConfig
from tfdet.backbones.supernet import Supernet
from tfdet.layers.gate_router import GateRouter, quarters
from tfdet.layers.separable_unit import SeparableUnit

RNG = np.random.default_rng(0)
X = tf.constant(RNG.normal(size=(1, 5, 7, 6)), tf.float32)


def lively(layer):
    """The layer, built, with variables other than at the start."""
    layer(X)
    for variable in layer.variables:
        if "kernel" not in variable.name:
            variable.assign(RNG.uniform(0.5, 1.5, variable.shape))
    return layer


@pytest.mark.parametrize("inner_norm", [False, True])
def test_a_unit_is_that_of_the_layer(inner_norm):
    unit = lively(SeparableUnit(6, relu=False, inner_norm=inner_norm))
    np.testing.assert_allclose(FoldedUnit.of(unit)(X), unit(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("function", ["tanh", "sigmoid"])
def test_a_router_is_that_of_the_layer(function):
    router = lively(GateRouter(3, function=function))
    expected = router(X)
    assert 0 < float(tf.reduce_min(expected)) < 1
    np.testing.assert_allclose(FoldedRouter.of(router)(quarters(X)), expected, rtol=1e-4)


def test_a_grid_without_routers_has_all_gates_at_1():
    keras.utils.set_random_seed(0)
    config = SupernetConfig(layers=2, channels=(4, 6), stem_filters=(3, 4, 4), routers=False)
    net = Supernet(config)
    net(tf.zeros((1, 16, 16, 3)))
    grid = FoldedGrid.of(net)
    assert len(grid.nodes) == len(config.nodes)
    for node in grid.nodes:
        gates = node.gates(tf.zeros((1, 2, 2, config.channels[node.spec.scale])))
        np.testing.assert_array_equal(gates, np.ones((1, len(node.spec.paths))))
