"""Positives of each family are those that its loss learns from."""

import numpy as np
import pytest

from tfdet import registry
from tfdet.detectors.positives import of_anchors

BOXES = np.array([[[2, 4, 30, 40], [33, 8, 60, 30], [0, 0, 0, 0]]], np.float32)
LABELS = np.array([[1, 0, -1]], np.int32)


def test_an_anchor_learns_the_object_that_it_overlaps():
    anchors = np.array([[2, 4, 30, 40], [34, 8, 60, 30], [0, 0, 4, 4]], np.float32)
    found = of_anchors(anchors, np.array([3, 4, 3]), BOXES, LABELS, rescue="none")
    np.testing.assert_array_equal(found.objects, [[0, 1, -1]])
    np.testing.assert_allclose(found.best_iou, [[1, 26 / 27, 0]], rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    ["fcos-test", "packdet-test", "retinanet-test", "efficientdet-test", "faster-rcnn-test"],
)
def test_each_object_is_learned_at_its_place(name):
    model = registry.create(name, image_size=(64, 64))
    found = model.positives(BOXES, LABELS)
    assert set(np.unique(found.objects)) == {-1, 0, 1}
    assert found.levels.shape == found.objects.shape[1:]
    assert (found.best_iou is None) == (name in ("fcos-test", "packdet-test"))


def test_a_detector_whose_targets_follow_its_predictions_has_none():
    assert registry.create("yolov7-test").positives(BOXES, LABELS) is None


def test_a_cascade_and_a_grid_have_those_of_their_dense_part():
    for name in ("dy-efficientdet-test", "caddet-test"):
        model = registry.create(name)
        own = model.positives(BOXES, LABELS)
        part = model.first if hasattr(model, "first") else model.dense()
        np.testing.assert_array_equal(own.objects, part.positives(BOXES, LABELS).objects)
