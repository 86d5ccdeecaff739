"""Tests of what is computed once for the whole report."""

import numpy as np
import pytest

from tfdet.evaluation import analysis, findings

A, B = (10, 10, 60, 60), (100, 20, 160, 80)


def test_a_class_has_its_ap_its_threshold_and_its_curves(lively):
    one, metrics = analysis.analyse(findings.of(lively)), lively.result()
    rows = analysis.class_rows(one, metrics)
    assert [row["class"] for row in rows] == ["cat", "dog", "emu"]
    for name in ("AP50", "AP75"):
        assert np.mean([row[name] for row in rows]) == pytest.approx(metrics[name], abs=1e-12)
    for row in rows:
        assert row["AP"] == metrics[f"AP/{row['class']}"]
        assert np.mean(row["precision50"]) == pytest.approx(row["AP50"], abs=1e-5)
        assert len(row["precision75"]) == 101
        assert 0 < row["best"]["f1"] < 1
    assert sum(row["detections"] for row in rows) == len(one.findings.found)
    assert sum(row["objects"] for row in rows) == (~one.findings.truth.is_crowd).sum()


def test_a_class_without_objects_has_no_numbers(evaluated):
    evaluator = evaluated([[(0, A)]], [[(0, 0.9, A), (2, 0.8, B)]])
    _, dog, emu = analysis.class_rows(analysis.analyse(findings.of(evaluator)), evaluator.result())
    assert (dog["AP"], dog["AP50"], dog["best"], dog["detections"]) == (-1, -1, None, 0)
    assert (emu["AP"], emu["objects"], emu["detections"]) == (-1, 0, 1)


def test_precision_and_recall_at_any_threshold(analysed):
    one = analysed([[(0, A), (0, B)]], [[(0, 0.9, A), (1, 0.5, A), (0, 0.3, B)]])
    rows = analysis.threshold_rows(one)
    at = {score: i for i, score in enumerate(rows["threshold"])}
    found = [(rows["precision"][at[x]], rows["recall"][at[x]]) for x in (0.95, 0.9, 0.5, 0.1)]
    assert found == [(1, 0), (1, 0.5), (0.5, 0.5), (0.66667, 1)]
    assert one.threshold == 0.3
    assert one.images.hits.tolist() == [2]


@pytest.mark.parametrize("rows", [[], [(0, 0.8, B)]])
def test_where_nothing_is_right_there_is_a_threshold_all_the_same(analysed, rows):
    one = analysed([[(0, A)]], [rows])
    assert one.best is None
    assert one.threshold == analysis.NO_BEST
    assert one.images.absent.tolist() == [1]
