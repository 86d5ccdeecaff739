import numpy as np
import pytest
import tensorflow as tf

from tfdet.data.outlines import Outlines
from tfdet.data.raster import rasterize
from tfdet.data.visible import points_inside


def rings(count, seed):
    rng = np.random.default_rng(seed)
    polygons = [rng.uniform(0, 40, (rng.integers(3, 9), 2)) for _ in range(count)]
    outlines = Outlines.from_segmentations([[p.ravel().tolist()] for p in polygons])
    return outlines.sides(slice(0, count)), polygons


@pytest.mark.parametrize("seed", range(4))
def test_cells_are_those_whose_middles_are_inside(seed):
    (sides, owners), polygons = rings(5, seed)
    rng = np.random.default_rng(seed)
    boxes = np.stack([np.concatenate([p.min(0), p.max(0)]) for p in polygons])
    boxes[0, :2] += rng.uniform(0, 6, 2)  # a box may show a part of its object alone
    boxes = boxes.astype(np.float32)
    found = rasterize(sides, tf.cast(owners, tf.int32), boxes, 9).numpy()
    for n, (left, top, right, bottom) in enumerate(boxes):
        x, y = np.meshgrid(
            left + (np.arange(9) + 0.5) / 9 * (right - left),
            top + (np.arange(9) + 0.5) / 9 * (bottom - top),
        )
        points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
        inside = points_inside(points, sides, tf.cast(owners, tf.int32), 5).numpy()[:, n]
        np.testing.assert_array_equal(found[n].ravel(), inside)


def test_objects_without_sides_and_boxes_without_area_are_empty():
    (sides, owners), _ = rings(1, 0)
    boxes = np.array([[3, 3, 3, 9], [0, 0, 40, 40]], np.float32)
    assert not rasterize(sides, tf.cast(owners, tf.int32), boxes, 5).numpy()[1].any()
    none = rasterize(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), boxes[:0], 5)
    assert none.shape == (0, 5, 5)


def test_run_length_masks_have_the_sides_of_their_pixels():
    from pycocotools import mask as coco_masks

    pixels = np.random.default_rng(0).random((12, 16)) < 0.5
    runs = coco_masks.encode(np.asfortranarray(pixels.astype(np.uint8)))
    sides = Outlines.from_segmentations([runs]).mask_sides(0)
    box = np.array([[0, 0, 16, 12]], np.float32)
    found = rasterize(sides, np.zeros(len(sides), np.int32), box, 48).numpy()[0]
    np.testing.assert_array_equal(found[2::4, 1::3], pixels)
