"""Tests of a dynamic detector's figures."""

import types

import numpy as np
import pytest

from tests.evaluation import planted
from tfdet.evaluation import analysis, dynamic_figures, findings

A = (10, 10, 60, 60)


@pytest.fixture(scope="module")
def boxes():
    """Six images with an object each, found in the first three."""
    rows = [[(0, 0.9, A)]] * 3 + [[]] * 3
    return analysis.analyse(findings.of(planted.evaluated([[(0, A)]] * 6, rows)))


def _cascade(threshold_ends=(0.0, 1.0)):
    return types.SimpleNamespace(threshold=0.5, score="easiness", threshold_ends=threshold_ends)


REPORTS = {
    "index": np.arange(6),
    "macs": np.float32([1e9, 3e9, 1e9, 1e9, 3e9, 3e9]),
    "easiness": np.float32([0.9, 0.3, 0.7, 0.8, 0.1, 0.2]),
    "is_hard": np.array([False, True, False, False, True, True]),
}


def test_images_of_a_cascade_stand_by_their_easiness(boxes):
    facts = dynamic_figures.dynamic_figures(_cascade(), REPORTS, boxes)
    assert [row["id"] for row in facts["easiest"]] == [0, 3, 2, 1, 5, 4]
    assert [row["id"] for row in facts["hardest"]] == [4, 5, 1, 2, 3, 0]
    assert [row["score"] for row in facts["hardest"][:2]] == pytest.approx([0.1, 0.2])
    assert facts["easiest"][0] | {"f1": 1.0, "hits": 1, "macs": 1e9} == facts["easiest"][0]
    assert (facts["macs"], facts["share"]) == (2e9, 0.5)
    assert sum(facts["scores"]["count"]) == sum(facts["costs"]["count"]) == 6
    groups = {row["group"]: (row["images"], row["AP"], row["macs"]) for row in facts["by_cost"]}
    third = pytest.approx(0.663, abs=0.01)  # AP of two hits among three objects
    assert groups == {"easy": (3, third, 1e9), "hard": (3, pytest.approx(0.337, abs=0.01), 3e9)}


def test_a_score_that_means_the_opposite_turns_the_order(boxes):
    order = dynamic_figures.hardest_last(_cascade((1.0, 0.0)), REPORTS)
    assert order.tolist() == [2, 3, 0, 4, 5, 1]


def test_images_of_many_routes_stand_by_their_cost(boxes):
    model = types.SimpleNamespace(threshold=0.0, score="gates", threshold_ends=(1.0, 0.0))
    reports = {
        "index": np.arange(6),
        "macs": np.float32([4, 2, 6, 1, 5, 3]),
        "gates": np.zeros((6, 7), np.float32),
    }
    facts = dynamic_figures.dynamic_figures(model, reports, boxes)
    assert [row["id"] for row in facts["easiest"]] == [3, 1, 5, 0, 4, 2]
    assert [row["images"] for row in facts["by_cost"]] == [2, 2, 2]
    assert "scores" not in facts and "share" not in facts
    assert facts["costs"]["edges"][0] == 1 and facts["costs"]["edges"][-1] == 6


def test_images_of_equal_costs_have_a_histogram(boxes):
    reports = {**REPORTS, "macs": np.full(6, 7e8, np.float32), "is_hard": np.zeros(6, bool)}
    facts = dynamic_figures.dynamic_figures(_cascade(), reports, boxes)
    assert sum(facts["costs"]["count"]) == 6
    assert [row["group"] for row in facts["by_cost"]] == ["easy"]
