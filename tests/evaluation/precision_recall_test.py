"""Tests of precision, recall and the best threshold."""

import numpy as np
import pytest

from tfdet.evaluation import findings, matching, overlaps, precision_recall


def test_ap_is_cocos(lively):
    one = findings.of(lively)
    pairs, metrics = overlaps.of_boxes(one), lively.result()
    for name, iou in (("AP50", 0.5), ("AP75", 0.75)):
        curves = precision_recall.curves(one, matching.match(one, pairs, iou))
        assert precision_recall.mean_ap(curves) == pytest.approx(metrics[name], abs=1e-12)
        assert 0.1 < metrics[name] < 0.9


def test_a_curve_by_hand():
    is_hit, scores = np.array([True, False, True]), np.array([0.9, 0.8, 0.7])
    curve = precision_recall.curve(is_hit, scores, num_objects=4)
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert curve.recall.tolist() == [1 / 4, 1 / 4, 2 / 4]
    assert curve.envelope()[[0, 25, 26, 50, 51]].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3, 0])
    best = precision_recall.best_threshold(curve)
    assert (best.threshold, best.recall) == (0.7, 0.5)
    assert best.f1 == pytest.approx(2 * 2 / (3 + 4))


def test_the_best_threshold_lies_between_hits_and_mistakes():
    scores = np.linspace(0.99, 0.01, 99)
    curve = precision_recall.curve(scores > 0.405, scores, num_objects=59)
    best = precision_recall.best_threshold(curve)
    assert best.threshold == pytest.approx(0.41)
    assert (best.f1, best.precision, best.recall) == pytest.approx((1, 1, 1))


def test_detections_of_equal_scores_come_and_go_together():
    curve = precision_recall.curve(np.array([True, False, False]), np.full(3, 0.5), 1)
    best = precision_recall.best_threshold(curve)
    assert (best.threshold, best.precision) == pytest.approx((0.5, 1 / 3))


@pytest.mark.parametrize(("hits", "objects"), [([], 0), ([], 3), ([False, False], 3), ([False], 0)])
def test_without_objects_or_hits_no_threshold_is_best(hits, objects):
    curve = precision_recall.curve(np.array(hits, bool), np.linspace(1, 0, len(hits)), objects)
    assert precision_recall.best_threshold(curve) is None
    assert curve.ap == (0 if objects else -1)
    assert curve.envelope().shape == (101,)
