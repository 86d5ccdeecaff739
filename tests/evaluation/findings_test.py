"""Tests of truth and detections in columns."""

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from tfdet.evaluation import findings

BOX = (10, 10, 60, 50)


def test_detections_stand_by_score_and_equal_ones_by_image(evaluated):
    rows = [[(0, 0.5, BOX), (1, 0.9, BOX)], [(2, 0.5, BOX), (0, 0.7, BOX)]]
    found = findings.of(evaluated([[(0, BOX)], []], rows)).found
    assert found.scores.tolist() == [0.9, 0.7, 0.5, 0.5]
    assert found.image.tolist() == [0, 1, 0, 1]
    assert found.labels.tolist() == [1, 0, 0, 2]
    assert found.areas.tolist() == [2000] * 4
    assert found.runs is None


def test_images_left_out_are_in_none_of_it(evaluated):
    evaluator = evaluated([[(0, BOX)], [(1, BOX)], []], [[(0, 0.5, BOX)], [(1, 0.6, BOX)], []])
    evaluator.leave_out([0])
    one = findings.of(evaluator)
    assert one.images.tolist() == [1, 2]
    assert one.truth.image.tolist() == one.found.image.tolist() == [1]
    assert one.truth.rows.tolist() == [1]


def test_the_surest_hundred_of_a_class_in_an_image_count(evaluated):
    rows = [[(label, 0.001 * i, BOX) for i in range(130) for label in (0, 1)], [(0, 0.0, BOX)]]
    found = findings.of(evaluated([[(0, BOX)], []], rows)).found
    assert len(found) == 201
    assert (np.sort(found.scores[found.labels == 1]) == 0.001 * np.arange(30, 130)).all()


def test_nothing_at_all_is_fine(evaluated):
    one = findings.of(evaluated([[], []], [[], []]))
    assert (len(one.truth), len(one.found), len(one.images)) == (0, 0, 2)


def test_areas_of_masks_are_those_of_their_pixels(evaluated):
    def outline(box):
        return [[box[0], box[1], box[2], box[1], box[2], box[3]]]

    rows = [[(0, 0.5, BOX), (1, 0.9, (20.4, 20.4, 40.4, 30.4))]]
    evaluator = evaluated([[(0, BOX)]], rows, segmentations=outline, masks=True)
    found = findings.of(evaluator, of_masks=True).found
    pixels = [int(coco_masks.decode(runs).sum()) for runs in found.runs]
    assert found.areas.tolist() == pixels
    assert pixels == pytest.approx([200, 2000], rel=0.02)
    assert findings.of(evaluator).found.areas.tolist() == pytest.approx([200, 2000])


def test_more_masks_than_a_byte_counts_have_areas(evaluated):
    """pycocotools 2.0.11 fails for lists of 256 masks and more."""
    rows = [[(0, 0.9, BOX)] * 90] * 3
    evaluator = evaluated([[(0, BOX)]] * 3, rows, segmentations=lambda _: None, masks=True)
    assert findings.of(evaluator, of_masks=True).found.areas.shape == (270,)
