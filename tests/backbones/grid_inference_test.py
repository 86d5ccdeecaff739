"""Skipping what is closed gives what computing everything gives."""

import collections

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

from tfdet.backbones import grid_inference
from tfdet.backbones.grid import CLOSED, SupernetConfig
from tfdet.backbones.grid_inference import skip_closed
from tfdet.backbones.grid_node import GridNode, GridPath
from tfdet.backbones.supernet import Supernet
from tfdet.layers import gate_router

CONFIG = {"layers": 3, "channels": (4, 6, 8, 10), "stem_filters": (3, 4, 4)}
# Of different contrast, so that routers tell them apart.
CONTRASTS = np.array([0.1, 1, 3, 10]).reshape(4, 1, 1, 1)
IMAGES = tf.constant(np.random.default_rng(0).normal(size=(4, 40, 72, 3)) * CONTRASTS, tf.float32)


class Told(Supernet):
    """A grid all of whose routers open all gates, and whose gates are multiplied by a table's."""

    table = None

    def gates_of(self, number, h, is_here, training, threshold):
        if self.table is None:  # while it is built
            return super().gates_of(number, h, is_here, training, threshold)
        gates = super().gates_of(number, h, is_here, training, threshold)
        gates *= self.table[:, self.config.nodes[number].gates]
        return tf.where(gates >= threshold, gates, 0.0)


def lively(net):
    """The net with batch norms that do something to zeros."""
    net(IMAGES[:1])
    rng = np.random.default_rng(3)
    for variable in net.weights:
        if variable.name in ("beta", "moving_mean"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
        elif variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.7, 1.3, variable.shape))
    return net


@pytest.fixture(
    scope="module", params=[{}, {"bypass": False}, {"keep": "conv", "up": "resize_conv"}]
)
def told(request):
    """Functions of a table of gates [4, gates]: the dense form, and the one that skips."""
    keras.utils.set_random_seed(0)
    net = Told(SupernetConfig(**CONFIG, **request.param))
    lively(net)
    for router in net.routers:
        router.score.kernel.assign(0.1 * router.score.kernel)
    spec = tf.TensorSpec([4, net.config.num_gates])

    def dense(table):
        net.table = table
        return net(IMAGES, training=False)

    def skipping(table):
        return skip_closed(net, IMAGES, factors=table)

    return net.config, *(
        tf.function(f, input_signature=[spec], autograph=False) for f in (dense, skipping)
    )


SHARES = strategies.sampled_from([0, 0.1, 0.3, 0.6, 0.9, 1])


@hypothesis.settings(
    max_examples=12, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
@hypothesis.given(
    shares=strategies.lists(SHARES, min_size=4, max_size=4), seed=strategies.integers(0, 2**31)
)
@hypothesis.example(shares=[0, 0, 0, 0], seed=0)
@hypothesis.example(shares=[1, 1, 1, 1], seed=0)
@hypothesis.example(shares=[0, 1, 0, 1], seed=0)
@hypothesis.example(shares=[0, 0, 1, 0.5], seed=1)
def test_random_patterns_give_what_the_dense_grid_gives(told, shares, seed):
    config, dense, skipping = told
    rng = np.random.default_rng(seed)
    gates = rng.uniform(0.1, 1, (4, config.num_gates)).astype(np.float32)
    gates *= rng.random(gates.shape) < np.array(shares)[:, None]
    expected, found = dense(gates), skipping(gates)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4, err_msg=name)


def routed(**changes):
    """A grid whose routers open about half of the gates, image by image."""
    keras.utils.set_random_seed(0)
    net = lively(Supernet(SupernetConfig(**CONFIG, **changes)))
    rng = np.random.default_rng(5)
    for router in net.routers:
        router.score.kernel.assign(rng.normal(0, 3, router.score.kernel.shape))
        router.score.bias.assign(rng.normal(0.6, 0.5, router.score.bias.shape))
    return net


@pytest.mark.parametrize("threshold", [CLOSED, 0.4])
def test_an_image_does_not_depend_on_its_neighbours(threshold):
    net = routed()

    @tf.function(input_signature=[tf.TensorSpec([None, 40, 72, 3])], autograph=False)
    def run(images):
        return skip_closed(net, images, threshold)

    together = run(IMAGES)
    gates = np.asarray(together["gates"])
    assert len(np.unique(gates > 0, axis=0)) > 1
    single = tf.function(lambda x: skip_closed(net, x, threshold), autograph=False)
    dense = net(IMAGES, threshold=threshold)
    for i in range(4):
        for alone in (run(IMAGES[i : i + 1]), single(IMAGES[i : i + 1])):
            for name, values in alone.items():
                np.testing.assert_allclose(values[0], together[name][i], rtol=1e-4, atol=1e-4)
    for name, values in dense.items():
        np.testing.assert_allclose(together[name], values, rtol=1e-4, atol=1e-4)


def test_closed_nodes_and_paths_are_not_run(monkeypatch):
    net, runs = routed(), collections.Counter()
    for owner, name in ((GridNode, "block"), (GridPath, "carry")):
        monkeypatch.setattr(owner, name, _counting(getattr(owner, name), net, runs))
    gates = np.asarray(skip_closed(net, IMAGES)["gates"])  # eager: a branch is run or is not
    for number, spec in enumerate(net.config.nodes):
        is_open = gates[:, spec.gates] > 0
        assert runs[number, "block"] == is_open.any(axis=1).sum()
        for i, path in enumerate(spec.paths):
            if path != "keep":
                assert runs[number, path] == is_open[:, i].sum()
    blocks = sum(runs[i, "block"] for i in range(len(net.nodes)))
    assert 0 < blocks < 4 * len(net.nodes)


def _counting(method, net, runs):
    places = {id(node): (number, "block") for number, node in enumerate(net.nodes)}
    for number, node in enumerate(net.nodes):
        places |= {id(path): (number, name) for name, path in node.paths.items()}

    def counting(part, *args, **kwargs):
        runs[places[id(part)]] += 1
        return method(part, *args, **kwargs)

    return counting


def test_a_map_that_came_through_closed_nodes_is_not_looked_at_again(monkeypatch):
    net, looks = routed(), collections.Counter()

    def look(x):
        looks[x.shape[-1]] += 1
        return gate_router.quarters(x)

    monkeypatch.setattr(grid_inference, "quarters", look)
    closed = tf.zeros((4, net.config.num_gates))
    skip_closed(net, IMAGES, factors=closed)
    assert looks[net.config.channels[0]] == 4  # once for each image, for all layers
