"""The shape of the grid."""

import numpy as np
import pytest

from tfdet.backbones.grid import SupernetConfig
from tfdet.errors import UserError


def test_the_published_grid_has_62_nodes_and_149_gates():
    config = SupernetConfig()
    assert (len(config.nodes), config.num_gates) == (62, 149)
    per_layer = np.bincount([n.layer for n in config.nodes], [len(n.paths) for n in config.nodes])
    np.testing.assert_array_equal(per_layer, [2, 5, 8, *[10] * 13, 4])
    assert np.bincount([n.layer for n in config.nodes]).tolist() == [1, 2, 3, *[4] * 14]


@pytest.mark.parametrize(
    ("changes", "nodes", "gates"),
    [
        ({"opening": "full"}, 64, 154),
        ({"opening": "full", "last_layer": "all"}, 64, 160),
        ({"opening": "initial"}, 65, 2 + 150 + 4),
        ({"opening": "initial", "last_layer": "all"}, 65, 162),
        ({"last_layer": "all"}, 62, 155),
    ],
)
def test_other_readings_of_the_opening(changes, nodes, gates):
    config = SupernetConfig(**changes)
    assert (len(config.nodes), config.num_gates) == (nodes, gates)
    # The cheapest route is one of the same three nodes.
    assert config.route("cheapest").sum() == 6


def test_gates_are_numbered_without_gaps():
    config = SupernetConfig(layers=5)
    numbers = [i for n in config.nodes for i in range(n.gates.start, n.gates.stop)]
    assert numbers == list(range(config.num_gates))
    assert config.gate_numbers(1, 1, "keep", "up", "down") == [4, 5, 6]


def test_sizes_are_rounded_up():
    sizes = SupernetConfig().map_sizes((800, 1200))
    assert sizes == ((100, 150), (50, 75), (25, 38), (13, 19))


def test_named_routes():
    config = SupernetConfig()
    assert config.route("floor").sum() == 0
    assert config.route("all_open").all()
    assert np.flatnonzero(config.route("cheapest")).tolist() == [0, 1, 4, 6, 12, 14]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"channels": (64,)}, "2 to 5 scales"),
        ({"stem_filters": (64, 64)}, "3 numbers"),
        ({"stem_filters": (64, 64, 32)}, "they must be equal"),
        ({"layers": 2}, "cannot open 4 scales; expected at least 3"),
        ({"layers": 3, "opening": "full"}, "cannot open 4 scales; expected at least 4"),
        ({"block_units": 0}, "block_units must be at least 1"),
    ],
)
def test_impossible_grids_are_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        SupernetConfig(**changes)
