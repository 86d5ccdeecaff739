"""Tests of the overlaps of detections and objects."""

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from tfdet.evaluation import findings, overlaps


def _all_pairs(one):
    """Detection, object and overlap of all pairs, by pycocotools, one by one."""
    for d in range(len(one.found)):
        for t in range(len(one.truth)):
            if one.found.image[d] == one.truth.image[t]:
                boxes = [
                    np.concatenate([box[:2], box[2:] - box[:2]])[None]
                    for box in (one.found.boxes[d], one.truth.boxes[t])
                ]
                yield d, t, coco_masks.iou(*boxes, [int(one.truth.is_crowd[t])]).item()


@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_pairs_are_those_of_pycocotools_in_chunks_of_any_size(lively, monkeypatch, chunk):
    monkeypatch.setattr(overlaps, "_CHUNK", chunk)
    one = findings.of(lively)
    expected = {(d, t): x for d, t, x in _all_pairs(one) if x >= 0.1}
    pairs = overlaps.of_boxes(one)
    assert len(expected) == len(pairs.overlap) > 100
    assert one.truth.is_crowd[pairs.truth].any()
    for d, t, x in zip(pairs.detection, pairs.truth, pairs.overlap, strict=True):
        assert x == pytest.approx(expected[d, t], abs=1e-12)
    assert (np.diff(pairs.detection) >= 0).all()


@pytest.mark.parametrize(("objects", "detections"), [([[], []], [[], []]), ([[]], [[]])])
def test_without_objects_or_detections_there_are_no_pairs(evaluated, objects, detections):
    assert not len(overlaps.of_boxes(findings.of(evaluated(objects, detections))).overlap)


def test_boxes_of_no_extent_overlap_nothing(evaluated):
    rows = [[(0, 0.9, (20, 20, 20, 20)), (0, 0.8, (30, 30, 10, 10))]]
    one = findings.of(evaluated([[(0, (10, 10, 60, 50))]], rows))
    assert not len(overlaps.of_boxes(one).overlap)


def test_masks_overlap_by_their_pixels(evaluated):
    """The detection is a full box, the object the left half of the same box."""

    def left_half(box):
        left, top, right, bottom = box
        middle = (left + right) / 2
        return [[left, top, middle, top, middle, bottom, left, bottom]]

    box = (10, 10, 60, 50)
    objects = [[(0, box), (1, (200, 100, 240, 140))]]
    rows = [[(0, 0.9, box), (0, 0.8, (200, 100, 220, 140))]]
    evaluator = evaluated(objects, rows, segmentations=left_half, masks=True)
    pairs = overlaps.of_masks(findings.of(evaluator, of_masks=True))
    assert pairs.detection.tolist() == [0, 1]
    assert pairs.truth.tolist() == [0, 1]
    assert pairs.overlap.tolist() == pytest.approx([0.5, 1.0], abs=0.02)
