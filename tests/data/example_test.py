import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfdet.data.example import load_example
from tfdet.data.loader import ImageLoader
from tfdet.data.outlines import Outlines
from tfdet.data.sources import open_dataset


@pytest.fixture(scope="module")
def shapes():
    return open_dataset("shapes:train:6")


def _load(dataset, index, **options):
    return load_example(ImageLoader(dataset), tf.constant(index, tf.int64), **options)


def test_example_is_the_row_of_the_data_set(shapes):
    for i in range(6):
        example, rows = _load(shapes, i), shapes.rows(i)
        np.testing.assert_array_equal(example.boxes, shapes.boxes[rows])
        np.testing.assert_array_equal(example.labels, shapes.labels[rows])
        assert example.image.shape == (256, 256, 3) and example.index == i
        assert example.sides.shape == (0, 4) and example.owners.shape == (0,)


def test_boxes_are_the_extents_of_the_outlines(shapes):
    for i in range(6):
        example = _load(shapes, i, with_outlines=True)
        for k, box in enumerate(example.boxes):
            sides = tf.reshape(example.sides[example.owners == k], [-1, 2])
            extent = [*tf.reduce_min(sides, axis=0), *tf.reduce_max(sides, axis=0)]
            np.testing.assert_allclose(extent, box, atol=0.01)


def test_objects_without_outline_have_the_sides_of_their_box(shapes):
    plain = dataclasses.replace(shapes, outlines=None)
    example = _load(plain, 2, with_outlines=True)
    for k, (x0, y0, x1, y1) in enumerate(example.boxes.numpy()):
        ring = [(x0, y0, x1, y0), (x1, y0, x1, y1), (x1, y1, x0, y1), (x0, y1, x0, y0)]
        np.testing.assert_array_equal(example.sides[example.owners == k], ring)


def test_owners_follow_the_boxes_that_the_real_image_size_leaves(tmp_path, scenes):
    """An image smaller than annotated: the second of three boxes lies outside of it."""
    dataset = open_dataset(scenes.write_coco(tmp_path))
    scenes.save_image(tmp_path / "images" / "d4.jpg", (10, 48))
    position = int(np.flatnonzero(dataset.names == "d4.jpg")[0])
    rows = dataset.rows(position)
    boxes = dataset.boxes[rows]
    assert (boxes[:, 1] < 10).tolist() == [True, False, True]
    polygons = [
        [[b[0], b[1], b[2], b[1], b[2], b[3]]] if k != 2 else None for k, b in enumerate(boxes)
    ]
    outlines = Outlines.from_segmentations([None] * rows.start + polygons)
    dataset = dataclasses.replace(dataset, outlines=outlines)
    example = _load(dataset, position, with_outlines=True)
    np.testing.assert_array_equal(example.owners, 3 * [0] + 4 * [1])
    assert example.boxes.shape == (2, 4) and np.max(example.boxes[:, 1::2]) <= 10
    # A box in place of an outline is the one inside the image; an outline keeps its directions.
    assert np.max(example.sides[3:, 1::2]) <= 10 < np.max(example.sides[:3, 1::2])


def test_damaged_image_is_replaced_or_told(tmp_path, scenes):
    dataset = open_dataset(scenes.write_coco(tmp_path))
    (tmp_path / "images" / "a1.jpg").write_bytes(b"nothing")
    assert _load(dataset, 0, with_outlines=True).index == 1
    example = _load(dataset, 0, replace=False, with_outlines=True)
    assert example.index == -1 and len(example.boxes) == 0 and len(example.sides) == 0
