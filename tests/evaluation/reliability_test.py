"""Tests of the reliability of scores."""

import numpy as np
import pytest

from tfdet.evaluation import analysis, findings, reliability

A = (10, 10, 60, 60)


def test_by_hand(analysed):
    objects = [[(0, A)], [(0, A)], []]
    rows = [[(0, 0.95, A)], [(0, 0.85, A), (0, 0.35, A)], [(0, 0.91, A)]]
    one = analysed(objects, rows)
    facts = reliability.reliability(one.findings, one.matches)
    assert facts["count"] == [0, 0, 0, 1, 0, 0, 0, 0, 1, 2]
    assert facts["precision"][3] == 0
    assert facts["precision"][8:] == [1, 0.5]
    assert facts["score"][9] == pytest.approx(0.93)
    assert facts["precision"][0] is None
    assert facts["error"] == pytest.approx((0.35 + 0.15 + 2 * 0.43) / 4)
    assert facts["edges"][:2] + facts["edges"][-1:] == [0, 0.1, 1]


def test_scores_of_zero_and_one_have_their_bins(analysed):
    one = analysed([[(0, A)]], [[(0, 1.0, A), (0, 0.0, A)]])
    assert reliability.reliability(one.findings, one.matches, bins=2)["count"] == [1, 1]


def test_without_detections_there_is_no_error(analysed):
    one = analysed([[(0, A)]], [[]])
    facts = reliability.reliability(one.findings, one.matches)
    assert facts["error"] is None
    assert sum(facts["count"]) == 0


def test_detections_in_crowds_do_not_count(lively):
    one = analysis.analyse(findings.of(lively))
    counted = np.sum(reliability.reliability(one.findings, one.matches)["count"])
    assert counted == (~one.matches.is_ignored).sum() < len(one.findings.found)
