"""The grid as it is trained: dense, with gates as factors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.backbones import grid_inference
from tfdet.backbones.grid import SupernetConfig
from tfdet.backbones.supernet import Supernet

# This opening takes a layer for each scale.
FULL = {"layers": 4, "opening": "full", "last_layer": "all"}
SMALL = {"layers": 3, "channels": (4, 6, 8, 10), "stem_filters": (3, 4, 4)}
IMAGES = np.random.default_rng(0).normal(size=(3, 40, 72, 3)).astype(np.float32)


def make(**changes):
    keras.utils.set_random_seed(1)
    return Supernet(SupernetConfig(**{**SMALL, **changes}))


def with_scores(net, bias):
    """The net with constant gates, tanh(bias [gates])."""
    for spec, router in zip(net.config.nodes, net.routers, strict=True):
        router.score.kernel.assign(np.zeros(router.score.kernel.shape))
        router.score.bias.assign(bias[spec.gates])
    return net


def test_maps_halve_rounded_up():
    maps = make(layers=4)(IMAGES)
    shapes = {name: tuple(x.shape) for name, x in maps.items()}
    assert shapes == {
        "P3": (3, 5, 9, 4),
        "P4": (3, 3, 5, 6),
        "P5": (3, 2, 3, 8),
        "P6": (3, 1, 2, 10),
        "gates": (3, 29),
    }


def test_new_gates_are_near_their_bias():
    net = make(channels=(32, 48, 64, 80), stem_filters=(16, 16, 32))
    gates = np.asarray(net(IMAGES, training=True)["gates"])
    assert np.median(gates) == pytest.approx(np.tanh(1.5), abs=0.1)


@pytest.mark.parametrize("changes", [{}, {"keep": "conv"}, {"up": "resize_conv"}])
def test_open_gates_are_factors_of_one(changes):
    """Every gate 1 is the network without routers, and the route with everything open."""
    net = make(**changes)
    net(IMAGES)
    with_scores(net, np.full(net.config.num_gates, 20.0))
    plain = make(**changes, routers=False)
    plain(IMAGES)
    for ours, theirs in zip(plain.nodes + plain.stem, net.nodes + net.stem, strict=True):
        ours.set_weights(theirs.get_weights())
    expected = plain(IMAGES)
    route = net.along(IMAGES, net.config.route("all_open"))
    for name, values in net(IMAGES).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-4)
        if name != "gates":
            np.testing.assert_allclose(values, route[name], rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module", params=[{}, {"bypass": False}, FULL])
def net(request):
    net = make(**request.param)
    net(IMAGES)
    return net


@pytest.mark.parametrize("kind", ["floor", "cheapest", "all_open"])
def test_closed_nodes_are_as_if_they_were_not_there(net, kind):
    """The dense form with a route's gates gives what running only the open parts gives."""
    route = net.config.route(kind)
    with_scores(net, np.where(route, 20.0, -1.0))
    found, expected = net(IMAGES), net.along(IMAGES, route)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4, err_msg=name)
    # Nothing is sent to the coarse nodes of the first layers of "full".
    is_open = np.asarray(found["gates"])[0] > 0
    assert not (is_open & ~route).any()
    if net.config.opening == "triangle":
        np.testing.assert_array_equal(is_open, route)


def test_a_closed_grid_hands_the_stem_on_and_absent_nodes_have_no_gates():
    net = make()
    net(IMAGES)
    bias = np.full(net.config.num_gates, 20.0)
    bias[:2] = -1.0  # the first node sends nothing down: the scale 1/16 opens later, from layer 1
    bias[net.config.gate_numbers(1, 0, "down")] = -1.0
    found = with_scores(net, bias)(IMAGES)
    gates = np.asarray(found["gates"])
    node = next(n for n in net.config.nodes if (n.layer, n.scale) == (1, 1))
    assert not gates[:, node.gates].any()
    floor = with_scores(net, np.full(net.config.num_gates, -1.0))(IMAGES)
    np.testing.assert_array_equal(floor["P3"], net.stem_map(IMAGES))
    assert not np.asarray(floor["P4"]).any() and not np.asarray(floor["gates"]).any()


def test_the_threshold_closes_in_inference_only():
    net = make()
    net(IMAGES)
    bias = np.random.default_rng(2).uniform(0.1, 1.5, net.config.num_gates)
    with_scores(net, bias)
    wanted = np.tanh(bias)
    np.testing.assert_allclose(net(IMAGES)["gates"][1], wanted, rtol=1e-5)
    raised = np.asarray(net(IMAGES, threshold=0.5)["gates"])[1]
    assert set(np.flatnonzero(raised)) <= set(np.flatnonzero(wanted >= 0.5))
    assert 0 < np.count_nonzero(raised) < len(wanted)
    training = net(IMAGES, training=True, threshold=0.5)["gates"][1]
    np.testing.assert_allclose(training, wanted, rtol=1e-5)
    hard = make(hard_gates=True)
    hard(IMAGES)
    with_scores(hard, bias)
    np.testing.assert_array_equal(hard(IMAGES, threshold=0.5)["gates"][1] > 0, raised > 0)
    assert set(np.unique(hard(IMAGES, threshold=0.5)["gates"])) == {0.0, 1.0}


def test_the_configuration_comes_back():
    net = make(stem_starts_full=True, block_units=3, gate="sigmoid")
    assert Supernet.from_config(net.get_config()).get_config() == net.get_config()
    net(IMAGES)
    assert net.stem[0].conv.kernel.shape == (3, 3, 3, 3)


def test_gradient_checkpointing_keeps_the_outputs():
    plain, saving = make(), Supernet(SupernetConfig(**SMALL), gradient_checkpointing=True)
    plain(IMAGES), saving(IMAGES)
    saving.set_weights(plain.get_weights())
    expected = plain(IMAGES, training=True)
    for name, values in saving(IMAGES, training=True).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [FULL, {"opening": "initial"}])
def test_other_openings_skip_what_is_closed(changes):
    net = make(**changes)
    net(IMAGES)
    with_scores(net, np.random.default_rng(4).uniform(-0.5, 1.5, net.config.num_gates))
    found, expected = grid_inference.skip_closed(net, tf.constant(IMAGES)), net(IMAGES)
    gates = np.asarray(expected["gates"])[0]
    assert 0.3 < np.mean(gates > 0) < 0.8
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4, err_msg=name)


def test_units_may_have_an_inner_norm():
    plain, normed = make(), make(block_inner_norm=True)
    for net in (plain, normed):
        net.build(IMAGES.shape)
    more = len(normed.trainable_weights) - len(plain.trainable_weights)
    assert more == 2 * plain.config.block_units * len(plain.nodes)
