"""Tests of AP by size, difficulty and the number of objects."""

import pytest

from tfdet.evaluation import findings, groups, overlaps

A, B = (10, 10, 60, 60), (100, 20, 160, 80)


def _found(evaluator):
    one = findings.of(evaluator)
    return one, overlaps.of_boxes(one)


def test_sizes_are_cocos(lively):
    metrics = lively.result()
    rows = groups.by_size(*_found(lively))
    assert [row["group"] for row in rows] == ["small", "medium", "large"]
    for row, name in zip(rows, ("APs", "APm", "APl"), strict=True):
        assert row["AP"] == pytest.approx(metrics[name], abs=1e-12)
    assert rows[0]["objects"] and rows[1]["objects"]
    everything = groups.average_precision(*_found(lively))
    assert everything["AP"] == pytest.approx(metrics["AP"], abs=1e-12)


def test_difficulties_are_data_sets_of_their_own(evaluated):
    objects, rows = [[(0, A)], [(0, A)], [(0, A)]], [[(0, 0.9, A)], [], [(0, 0.9, B)]]
    evaluator = evaluated(objects, rows, difficulty=[0.1, 0.5, 1.0])
    found = groups.by_difficulty(*_found(evaluator))
    assert [(row["group"], row["images"], round(row["AP"], 9)) for row in found] == [
        ("0-0.2", 1, 1.0),
        ("0.4-0.6", 1, 0.0),
        ("0.8-1", 1, 0.0),
    ]


def test_where_difficulties_are_not_known_there_are_no_groups(lively):
    assert groups.by_difficulty(*_found(lively)) == []


def test_images_are_grouped_by_their_objects(evaluated):
    many = [(0, A), (0, B), (0, (200, 100, 280, 180))]
    evaluator = evaluated([many, [(0, A)], [], [(0, B, True)]], [[], [(0, 0.9, A)], [], []])
    rows = groups.by_fill(*_found(evaluator))
    found = [(row["group"], row["images"], row["objects"], round(row["AP"], 9)) for row in rows]
    assert found == [("1", 1, 1, 1.0), ("2-4", 1, 3, 0.0)]
