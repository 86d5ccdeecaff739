"""Numbers about routes, by hand and against a slow obvious form."""

import itertools

import numpy as np
import pytest

from tfdet.backbones.grid import SupernetConfig
from tfdet.data import sources
from tfdet.evaluation import routes
from tfdet.losses.routing_budget import RoutingLossConfig, scale_code

GRID = SupernetConfig(layers=1, channels=(4, 6), stem_filters=(3, 4, 4))  # 2 + 1 + 1 gates


def facts(gates, macs, **traits):
    return routes.route_facts(GRID, np.array(gates, np.float32), np.array(macs), traits)


def test_four_images_by_hand():
    gates = [[0.9, 0.0, 0.0, 0.1], [0.2, 0.0, 0.0, 0.3], [0.5, 0.5, 0.0, 0.1], [0.5, 0.0, 0.0, 0.0]]
    found = facts(gates, [2e6, 2e6, 4e6, 0], difficulty=np.array([0.1, 0.2, 0.9, 0.0]))
    expected = {"mean": 2e6, "std": 2**0.5 * 1e6, "min": 0, "max": 4e6}
    assert found["macs"] == pytest.approx(expected)
    assert found["routes"] == 3
    # The second gate differs in three of six pairs, the last in three.
    assert found["hamming"] == 1
    assert found["open_gates"] == pytest.approx(8 / 16)
    assert (found["dead_gates"], found["fixed_gates"]) == (0.25, 0.25)
    assert [(n["layer"], n["scale"], n["open"]) for n in found["nodes"]] == [
        (0, 0, 1.0),
        (1, 0, 0.0),
        (1, 1, 0.75),
    ]
    assert found["nodes"][0]["paths"] == {"keep": 1.0, "down": 0.25}
    assert found["correlation"]["difficulty"]["spearman"] == pytest.approx(0.9486833)


def test_hamming_is_the_mean_over_pairs():
    gates = np.random.default_rng(0).random((7, 4)) - 0.5
    found = facts(gates, np.arange(7.0))
    pairs = itertools.combinations(gates > 0, 2)
    assert found["hamming"] == pytest.approx(np.mean([(a != b).sum() for a, b in pairs]))


def test_one_image_and_equal_costs_have_no_correlation():
    found = facts([[1, 1, 1, 1]], [5e6], objects=np.array([3.0]))
    assert (found["routes"], found["hamming"]) == (1, 0)
    assert found["correlation"]["objects"] == {"pearson": None, "spearman": None}
    assert "cost and objects: Pearson -, Spearman -" in routes.format_facts(found)


def test_spearman_is_of_the_order_only():
    x = np.array([3.0, 1.0, 2.0, 2.0, 9.0])
    assert routes.correlations(x, np.exp(x))["spearman"] == pytest.approx(1)
    assert routes.correlations(x, -(x**3))["spearman"] == pytest.approx(-1)
    assert routes.correlations(x, 2 * x + 1)["pearson"] == pytest.approx(1)


def test_traits_are_those_of_the_fitted_image():
    dataset = sources.open_dataset("shapes:val:12")
    config, index = RoutingLossConfig(scale_edges=(16.0, 32.0, 64.0)), np.array([3, 0, 11])
    found = routes.traits(dataset, index, (160, 128), config)
    assert set(found) == {"objects", "intervals", "size", "difficulty"}
    for row, i in enumerate(index):
        boxes = 0.5 * dataset.boxes[dataset.rows(i)][None]  # 256 pixels fit into 128
        targets = {"boxes": boxes, "labels": dataset.labels[dataset.rows(i)][None]}
        assert found["intervals"][row] == np.asarray(scale_code(targets, config, (160, 128))).sum()
        assert found["objects"][row] == boxes.shape[1]
        longer = (boxes[0, :, 2:] - boxes[0, :, :2]).max(axis=1)
        assert found["size"][row] == pytest.approx(longer.mean())
    np.testing.assert_array_equal(found["difficulty"], dataset.difficulty[index])
