"""Graphs without variables: what is skipped in a saved one gives what the dense form gives."""

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

from tfdet.backbones.grid import SupernetConfig
from tfdet.backbones.grid_inference import skip_closed
from tfdet.backbones.supernet import Supernet
from tfdet.serving import network

CONFIG = SupernetConfig(layers=3, channels=(4, 6, 8), stem_filters=(3, 4, 4))
SIZE = (24, 40)
IMAGES = np.random.default_rng(0).normal(size=(8, *SIZE, 3)).astype(np.float32)


class Told(Supernet):
    """A grid whose routers' gates are multiplied by those of a table."""

    table = None

    def gates_of(self, number, *args):
        gates = super().gates_of(number, *args)
        if self.table is None:  # while it is built
            return gates
        return gates * self.table[:, self.config.nodes[number].gates]

    def with_table(self, images, table):
        self.table = table
        found = self(images, training=False)
        self.table = None
        return found


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """Functions of images and a table: the dense form, and one that skips, saved and loaded."""
    keras.utils.set_random_seed(0)
    net = Told(CONFIG)
    net(IMAGES[:1])
    rng = np.random.default_rng(3)
    for variable in net.weights:
        if variable.name in ("beta", "moving_mean"):
            variable.assign(rng.normal(0, 0.3, variable.shape))

    specs = tf.TensorSpec([None, *SIZE, 3]), tf.TensorSpec([None, CONFIG.num_gates])

    def skipping(images, table):
        return skip_closed(net, images, factors=table)

    graph = network.frozen(skipping, *specs, inline_branches=True)
    module, path = tf.Module(), str(tmp_path_factory.mktemp("saved"))
    module.run = tf.function(graph, input_signature=specs, autograph=False)
    tf.saved_model.save(module, path)
    return tf.function(net.with_table, autograph=False), tf.saved_model.load(path).run


SHARES = strategies.sampled_from([0, 0.2, 0.5, 0.8, 1])


@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.given(
    shares=strategies.sampled_from([1, 2, 8]).flatmap(
        lambda batch: strategies.lists(SHARES, min_size=batch, max_size=batch)
    ),
    seed=strategies.integers(0, 2**31),
)
@hypothesis.example(shares=[0], seed=0)
@hypothesis.example(shares=[1], seed=0)
@hypothesis.example(shares=[0] * 8, seed=0)
@hypothesis.example(shares=[1] * 8, seed=0)
@hypothesis.example(shares=[0, 1, 0.5, 0.5, 1, 0, 0.2, 0.8], seed=1)
def test_a_saved_grid_gives_what_the_dense_one_gives(forms, shares, seed):
    dense, saved = forms
    images = IMAGES[: len(shares)]
    table = np.random.default_rng(seed).random((len(shares), CONFIG.num_gates))
    table = (table < np.array(shares)[:, None]).astype(np.float32)
    expected, found = dense(images, table), saved(images, table)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4, err_msg=name)


def conditions(graph):
    definition = graph.as_graph_def()
    bodies = [definition.node, *(f.node_def for f in definition.library.function)]
    nodes = [node for body in bodies for node in body if node.op in ("If", "StatelessIf")]
    names = {f.signature.name for f in definition.library.function}
    return nodes, names


@pytest.mark.parametrize("inline", [False, True])
def test_branches_within_branches_are_inlined_where_wanted(inline):
    def function(x):
        def inner():
            return tf.cond(tf.reduce_sum(x) > 9, lambda: x + 1, lambda: x - 1)

        return {"y": tf.cond(tf.reduce_sum(x) > 0, inner, lambda: 0 * x)}

    graph = network.frozen(function, tf.TensorSpec([2]), inline_branches=inline)
    nodes, names = conditions(graph._graph.graph)
    assert len(nodes) == 2
    for node in nodes:
        assert node.attr["_lower_using_switch_merge"].b == inline
        for branch in ("then_branch", "else_branch"):
            assert node.attr[branch].func.name in names
    for x, expected in (([5, 5], [6, 6]), ([1, 1], [0, 0]), ([-1, 0], [0, 0])):
        np.testing.assert_array_equal(graph(tf.constant(x, tf.float32))["y"], expected)


def test_names_of_custom_gradients_are_gone_from_branches_too():
    @tf.custom_gradient
    def doubled(x):
        return 2 * x, lambda up: 2 * up

    def function(x):
        return {"y": tf.cond(tf.reduce_sum(x) > 0, lambda: doubled(x), lambda: x)}

    graph = network.frozen(function, tf.TensorSpec([2]))
    assert "_gradient_op_type" not in str(graph._graph.graph.as_graph_def())
    np.testing.assert_array_equal(graph(tf.constant([1.0, 2.0]))["y"], [2, 4])


def test_graphs_with_loops_are_frozen_one_after_another():
    def repeated(times):
        def one(row):
            product = row
            for _ in range(times):
                product = product * 2  # which Grappler moves into the branch: both are made anew
            return tf.cond(tf.reduce_sum(row) > 0, lambda: product, lambda: row)

        return lambda x: {"y": tf.map_fn(one, x)}

    spec = tf.TensorSpec([None, 2])
    graphs = [network.frozen(repeated(n), spec, inline_branches=True) for n in (1, 2, 3)]
    for factor, graph in zip((2, 4, 8), graphs, strict=True):
        np.testing.assert_array_equal(graph(tf.ones([3, 2]))["y"], np.full((3, 2), factor))
