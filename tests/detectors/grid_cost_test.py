"""The cost model against the published constants and against what the layers count."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.backbones.grid import SupernetConfig
from tfdet.detectors.grid_cost import GridCost

# Millions by scale: block with one and with two units, way up, way down.
CONSTANTS = {
    (640, 800): [
        (37.376, 74.752, None, 16.384),
        (35.072, 70.144, 16.384, 16.384),
        (33.920, 67.840, 16.384, 17.039),
        (34.678, 69.356, 17.039, None),
    ],
    (800, 1200): [
        (70.080, 140.160, None, 30.720),
        (65.760, 131.520, 30.720, 31.130),
        (64.448, 128.896, 31.130, 32.375),
        (65.888, 131.775, 32.375, None),
    ],
}
TOTALS = {(640, 800): 5824.8, (800, 1200): 10994.5}


@pytest.mark.parametrize("size", CONSTANTS)
def test_constants_are_the_published_ones(size):
    config = SupernetConfig()
    one, two = (GridCost.of(SupernetConfig(block_units=units), size) for units in (1, 2))
    for number, spec in enumerate(config.nodes):
        single, double, up, down = CONSTANTS[size][spec.scale]
        assert round(one.nodes[number] / 1e6, 3) == single
        assert round(two.nodes[number] / 1e6, 3) == double
        paths = dict(zip(spec.paths, two.paths[spec.gates], strict=True))
        assert paths["keep"] == 0
        for name, wanted in (("up", up), ("down", down)):
            assert name not in paths or round(paths[name] / 1e6, 3) == wanted
    assert round(two.total / 1e6, 1) == TOTALS[size]


@pytest.mark.parametrize(
    ("changes", "small", "large"),
    [
        ({"block_units": 1}, 3633.9, 6861.9),
        ({"block_units": 1, "up": "resize_conv"}, 5689.8, 10726.6),
        ({"opening": "full"}, 6008, 11344),
        ({"block_units": 3}, 8016, 15127),
        ({"block_units": 1, "keep": "conv"}, 5684, 10730),
    ],
)
def test_other_readings_cost_what_the_paper_allows(changes, small, large):
    config = SupernetConfig(**changes)
    found = [GridCost.of(config, size).total / 1e6 for size in CONSTANTS]
    digits = 0 if isinstance(small, int) else 1
    assert [round(x, digits) for x in found] == [small, large]


@pytest.mark.parametrize(
    ("changes", "total"),
    [
        ({"opening": "full"}, 4233),
        ({"opening": "full", "last_layer": "all"}, 4333),
        ({"opening": "initial", "last_layer": "all"}, 4386),
    ],
)
def test_one_unit_stays_below_the_dearest_published_image(changes, total):
    config = SupernetConfig(block_units=1, **changes)
    assert round(GridCost.of(config, (640, 800)).total / 1e6 + 482.0) == total < 4572


def test_soft_and_hard_costs_of_even_gates():
    cost = GridCost.of(SupernetConfig(), (640, 800))
    gates = np.full((3, 149), [[1.0], [0.2], [0.0]], np.float32)
    np.testing.assert_allclose(cost.soft(gates), [1.0, 0.2, 0.0], rtol=1e-5)
    np.testing.assert_allclose(cost.hard(gates), [1.0, 1.0, 0.0], rtol=1e-5)


def test_a_block_counts_as_its_largest_gate():
    """Equation 1 by hand: the first node has keep 0.3 and down 0.5, all others are closed."""
    cost = GridCost.of(SupernetConfig(), (640, 800))
    gates = np.zeros((1, 149), np.float32)
    gates[0, :2] = 0.3, 0.5
    expected = 0.5 * 74_752_000 + 0.3 * 0 + 0.5 * 16_384_000
    assert float(cost.soft(gates)[0]) * cost.total == pytest.approx(expected, rel=1e-5)
    assert float(cost.hard(gates)[0]) * cost.total == pytest.approx(91_136_000, rel=1e-5)
    assert float(cost.hard(gates, 0.4)[0]) * cost.total == pytest.approx(91_136_000, rel=1e-5)
    assert float(cost.hard(gates, 0.6)[0]) == 0


def test_the_maximum_passes_its_gradient_to_the_largest_gate_alone():
    cost = GridCost.of(SupernetConfig(), (640, 800))
    values = np.zeros((1, 149), np.float32)
    values[0, 2:5] = 0.3, 0.5, 0.4  # keep, down of node (1, 0); keep of node (1, 1)
    gates = tf.Variable(values)
    with tf.GradientTape() as tape:
        soft = cost.soft(gates)[0] * cost.total / 1e6
    gradient = np.asarray(tape.gradient(soft, gates))[0]
    np.testing.assert_allclose(gradient[2:4], [0, 74.752 + 16.384], rtol=1e-5)
    np.testing.assert_allclose(gradient[4], 70.144, rtol=1e-5)
