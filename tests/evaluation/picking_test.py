"""Tests of parts of the findings."""

import numpy as np
import pytest

from tfdet.evaluation import analysis, findings, overlaps, picking


def test_a_score_keeps_detections_and_their_pairs(lively):
    one = findings.of(lively)
    pairs = overlaps.of_boxes(one)
    sure, kept = picking.above(one, pairs, 0.5)
    assert len(sure.found) == (one.found.scores >= 0.5).sum()
    assert sure.found.scores.min() >= 0.5
    again = overlaps.of_boxes(sure)
    np.testing.assert_array_equal(kept.detection, again.detection)
    np.testing.assert_array_equal(kept.truth, again.truth)


@pytest.mark.parametrize("threshold", [0.0, 0.7, 2.0])
def test_a_detection_of_the_very_score_is_kept(analysed, threshold):
    box = (10, 10, 60, 60)
    one = analysed([[(0, box)]], [[(0, 0.7, box), (0, 0.0, box)]])
    sure, _ = picking.above(one.findings, one.pairs, threshold)
    assert len(sure.found) == {0.0: 2, 0.7: 1, 2.0: 0}[threshold]


def test_parts_of_the_images_have_all_of_it_once(lively):
    one = findings.of(lively)
    pairs = overlaps.of_boxes(one)
    parts = [picking.of_images(one, pairs, own) for own in (one.images[::2], one.images[1::2])]
    for part, own in parts:
        again = overlaps.of_boxes(part)
        np.testing.assert_array_equal(own.detection, again.detection)
        np.testing.assert_array_equal(own.truth, again.truth)
        np.testing.assert_array_equal(own.overlap, again.overlap)
    whole = analysis.analyse(one).matches.is_hit.sum()
    assert sum(analysis.analyse(part).matches.is_hit.sum() for part, _ in parts) == whole


def test_no_image_is_a_part_too(lively):
    one = findings.of(lively)
    part, pairs = picking.of_images(one, overlaps.of_boxes(one), np.zeros(0, np.int64))
    assert (len(part.images), len(part.found), len(part.truth), len(pairs.overlap)) == (0, 0, 0, 0)
