"""One image of a data set with its objects, loaded inside a tf.data pipeline."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdet.data.dataset import DetectionDataset
from tfdet.data.loader import ImageLoader

_TYPES = (tf.uint8, tf.float32, tf.int32, tf.bool, tf.float32, tf.int32, tf.int64, tf.int32)
_SHAPES = ([None, None, 3], [None, 4], [None], [None], [None, 4], [None], [], [2])


class Example(NamedTuple):
    """An image with its N objects.

    Attributes:
        image: uint8 [H, W, 3].
        boxes: float32 [N, 4], xyxy in pixels of the image.
        labels: int32 [N].
        is_crowd: bool [N].
        sides: float32 [E, 4], the sides of the objects' outlines, each from (x, y) to (x, y); an
            object without an outline has the four sides of its box. Empty where not asked for.
        owners: int32 [E], the object that a side belongs to.
        index: int64, position in the data set; -1: damaged.
        size: int32 [2], (height, width) as in the data set.
    """

    image: tf.Tensor
    boxes: tf.Tensor
    labels: tf.Tensor
    is_crowd: tf.Tensor
    sides: tf.Tensor
    owners: tf.Tensor
    index: tf.Tensor
    size: tf.Tensor


def load_example(
    loader: ImageLoader, index: tf.Tensor, replace: bool = True, with_outlines: bool = False
) -> Example:
    """The example at a position.

    Args:
        loader: gives the images.
        index: scalar int64.
        replace: whether the next good image takes the place of a damaged one; otherwise the index
            of a damaged one is -1.
        with_outlines: whether `sides` is filled.
    """
    dataset = loader.dataset

    def load(i):
        i = int(i)
        image, position = loader.load_or_next(i) if replace else (loader.load(i), i)
        if image is None:
            image, position = np.zeros((1, 1, 3), np.uint8), -1
        rows = dataset.rows(position) if position >= 0 else slice(0, 0)
        height, width = image.shape[:2]
        limits = np.array([width, height] * 2, np.float32)
        boxes = np.clip(dataset.boxes[rows], 0, limits)
        keep = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        boxes, labels, is_crowd = boxes[keep], dataset.labels[rows][keep], dataset.is_crowd[rows]
        sides, owners = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
        if with_outlines:
            sides, owners = _outline_sides(dataset, rows, keep, boxes)
        size = np.array([height, width], np.int32)
        return image, boxes, labels, is_crowd[keep], sides, owners, np.int64(position), size

    example = tf.numpy_function(load, [index], _TYPES)
    return restore_shapes(Example(*example))


def restore_shapes(example: Example) -> Example:
    """The example with its static shapes, which `tf.cond` and Python functions lose."""
    pairs = zip(example, _SHAPES, strict=True)
    return Example(*[tf.ensure_shape(x, shape) for x, shape in pairs])


def _outline_sides(
    dataset: DetectionDataset,
    rows: slice,
    keep: np.ndarray,
    boxes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """`sides` and `owners` of the kept rows of an image; `boxes` are those of the kept ones."""
    sides, owners = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    if dataset.outlines is not None:
        sides, owners = dataset.outlines.sides(rows)
        # Those of crowds have thousands of sides, and are nobody's box.
        runs = [t for t in range(rows.start, rows.stop) if t in dataset.outlines.masks]
        for t in (t for t in runs if not dataset.is_crowd[t]):
            own = dataset.outlines.mask_sides(t)
            sides = np.concatenate([sides, own])
            owners = np.concatenate([owners, np.full(len(own), t - rows.start)])
        new_row = np.cumsum(keep) - 1
        # Not clipped: an edge that leaves the image would change its direction inside of it.
        sides = sides[keep[owners]]
        owners = new_row[owners[keep[owners]]]
    has_outline = np.zeros(len(boxes), bool)
    has_outline[owners] = True
    plain = np.flatnonzero(~has_outline)
    # Corner k of a box lies at columns (0, 1), (2, 1), (2, 3), (0, 3).
    box_sides = boxes[plain][:, [0, 1, 2, 1, 2, 1, 2, 3, 2, 3, 0, 3, 0, 3, 0, 1]].reshape(-1, 4)
    sides = np.concatenate([sides, box_sides])
    return sides, np.concatenate([owners, np.repeat(plain, 4)]).astype(np.int32)
