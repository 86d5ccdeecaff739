"""Tests of who finds what."""

import numpy as np
import pytest

from tfdet.evaluation import findings, matching, overlaps


def _one_by_one(one, pairs, least_iou, counted):
    """COCO's loop: the surest detection chooses first."""
    taken, free = np.full(len(one.found), -1), np.ones(len(one.truth), bool)
    for d in range(len(one.found)):
        rows = np.flatnonzero((pairs.detection == d) & (pairs.overlap >= least_iou))
        same = one.truth.labels[pairs.truth[rows]] == one.found.labels[d]
        rows = rows[same & (free | one.truth.is_crowd)[pairs.truth[rows]]]
        if len(rows):
            best = max(
                rows, key=lambda p: (counted[pairs.truth[p]], pairs.overlap[p], pairs.truth[p])
            )
            taken[d] = pairs.truth[best]
            free[taken[d]] = False
    return taken


@pytest.mark.parametrize("least_iou", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("part", [1.0, 0.5])
def test_it_ends_where_serving_one_by_one_does(lively, least_iou, part):
    one = findings.of(lively)
    pairs = overlaps.of_boxes(one)
    wanted = np.random.default_rng(1).random(len(one.truth)) < part
    matches = matching.match(one, pairs, least_iou, is_counted=wanted)
    counted = wanted & ~one.truth.is_crowd
    expected = _one_by_one(one, pairs, least_iou, counted)
    np.testing.assert_array_equal(matches.truth, expected)
    assert (matches.is_hit == [t >= 0 and counted[t] for t in expected]).all()
    assert not (matches.is_hit & matches.is_ignored).any()
    assert matches.is_found.sum() == matches.is_hit.sum() > 10


def test_a_refused_detection_takes_the_next_best_object(evaluated):
    near, far = (10, 10, 60, 50), (14, 10, 64, 50)
    rows = [[(0, 0.9, near), (0, 0.8, near), (0, 0.7, near)]]
    one = findings.of(evaluated([[(0, far), (0, near)]], rows))
    matches = matching.match(one, overlaps.of_boxes(one))
    assert matches.truth.tolist() == [1, 0, -1]
    assert matches.is_wrong.tolist() == [False, False, True]


def test_any_number_of_detections_lie_in_a_crowd(evaluated):
    rows = [[(0, 0.9, (20, 20, 40, 40)), (0, 0.8, (30, 20, 50, 40)), (1, 0.7, (20, 20, 40, 40))]]
    one = findings.of(evaluated([[(0, (0, 0, 100, 100), True)]], rows))
    matches = matching.match(one, overlaps.of_boxes(one))
    assert matches.is_ignored.tolist() == [True, True, False]
    assert matches.is_wrong.tolist() == [False, False, True]


def test_classes_may_differ_where_that_is_asked_for(evaluated):
    box = (10, 10, 60, 50)
    one = findings.of(evaluated([[(0, box)]], [[(1, 0.9, box)]]))
    pairs = overlaps.of_boxes(one)
    assert not matching.match(one, pairs).is_hit.any()
    assert matching.match(one, pairs, any_class=True).is_hit.all()
