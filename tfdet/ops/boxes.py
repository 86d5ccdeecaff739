"""Box arithmetic in xyxy pixels (left, top, right, bottom), float32, on any Keras backend."""

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

# Smallest height or width that the box code sees: keeps the logarithm finite (published value).
_MIN_SIZE = 1e-8

# Detectors predict box codes (ty, tx, th, tw) as multiples: targets have a deviation of about 1.
CODE_WEIGHTS = np.array([10.0, 10.0, 5.0, 5.0], np.float32)

# Boxes of more than 1000 pixels from an anchor's 16 are not believed (Detectron).
MAX_LOG_SIZE = math.log(1000 / 16)


class Sides(NamedTuple):
    """The four sides and the area of boxes [..., 4] as five contiguous tensors [...].

    Loops that compare one box with many split the many only once.
    """

    left: Any
    top: Any
    right: Any
    bottom: Any
    area: Any


def columns(rows) -> list[Any]:
    """The four numbers of boxes or codes [..., 4] as tensors [...], by one operation.

    Slices would be sixteen, each with a gradient that is added up. Arrays stay arrays.
    """
    if isinstance(rows, np.ndarray):
        return list(np.moveaxis(rows, -1, 0))
    return ops.unstack(rows, 4, axis=-1)


def sides(boxes_xyxy, border: float = 0.0) -> Sides:
    """Splits boxes [..., 4]; `border` is added to width and height (1 = inclusive pixels)."""
    left, top, right, bottom = columns(boxes_xyxy)
    width = ops.maximum(right - left + border, 0.0)
    height = ops.maximum(bottom - top + border, 0.0)
    return Sides(left, top, right, bottom, width * height)


def area(boxes_xyxy):
    """Area of boxes [..., 4] -> [...]; 0 where right < left or bottom < top."""
    return sides(boxes_xyxy).area


def intersection(a: Sides, b: Sides, border: float = 0.0):
    """Common area of boxes whose sides broadcast against each other."""
    width = ops.minimum(a.right, b.right) - ops.maximum(a.left, b.left) + border
    height = ops.minimum(a.bottom, b.bottom) - ops.maximum(a.top, b.top) + border
    return ops.maximum(width, 0.0) * ops.maximum(height, 0.0)


def overlap(a: Sides, b: Sides, border: float = 0.0):
    """IoU of boxes whose sides broadcast against each other; 0 where the union is empty."""
    shared = intersection(a, b, border)
    # Not divide_no_nan: that one is not vectorised on CPU and doubles the time of this line.
    return shared / ops.maximum(a.area + b.area - shared, _MIN_SIZE)


def iou(boxes_a, boxes_b):
    """IoU of every pair: [..., N, 4] and [..., M, 4] -> [..., N, M]; 0 for empty boxes."""
    return overlap(sides(boxes_a[..., :, None, :]), sides(boxes_b[..., None, :, :]))


def clip(boxes_xyxy, image_size):
    """Boxes [..., 4] cut at the borders of an image of size (height, width).

    The sizes are numbers or tensors that broadcast against [...].
    """
    height, width = (ops.cast(side, "float32") for side in image_size)
    left, top, right, bottom = columns(boxes_xyxy)
    return ops.stack(
        [
            ops.clip(left, 0.0, width),
            ops.clip(top, 0.0, height),
            ops.clip(right, 0.0, width),
            ops.clip(bottom, 0.0, height),
        ],
        axis=-1,
    )


def _centers(boxes_xyxy):
    """(y centre, x centre, height, width) of boxes [..., 4]."""
    left, top, right, bottom = columns(boxes_xyxy)
    return (top + bottom) * 0.5, (left + right) * 0.5, bottom - top, right - left


def encode(boxes_xyxy, anchors_xyxy):
    """Codes (ty, tx, th, tw) of boxes relative to anchors, [..., 4]; the inverse of `decode`.

    Sizes below 1e-8 pixels count as 1e-8, so that empty boxes give finite codes.
    """
    y, x, height, width = _centers(boxes_xyxy)
    anchor_y, anchor_x, anchor_height, anchor_width = _centers(anchors_xyxy)
    anchor_height = ops.maximum(anchor_height, _MIN_SIZE)
    anchor_width = ops.maximum(anchor_width, _MIN_SIZE)
    return ops.stack(
        [
            (y - anchor_y) / anchor_height,
            (x - anchor_x) / anchor_width,
            ops.log(ops.maximum(height, _MIN_SIZE) / anchor_height),
            ops.log(ops.maximum(width, _MIN_SIZE) / anchor_width),
        ],
        axis=-1,
    )


def decode(codes, anchors_xyxy, max_log_size: float | None = None):
    """Boxes xyxy [..., 4] of codes (ty, tx, th, tw) relative to anchors.

    th and tw are cut at `max_log_size`. Without it a wild code gives an infinite box, which
    post-processing drops.
    """
    anchor_y, anchor_x, anchor_height, anchor_width = _centers(anchors_xyxy)
    y, x, log_height, log_width = columns(codes)
    y = y * anchor_height + anchor_y
    x = x * anchor_width + anchor_x
    if max_log_size is not None:
        log_height = ops.minimum(log_height, max_log_size)
        log_width = ops.minimum(log_width, max_log_size)
    half_height = ops.exp(log_height) * anchor_height * 0.5
    half_width = ops.exp(log_width) * anchor_width * 0.5
    return ops.stack([x - half_width, y - half_height, x + half_width, y + half_height], axis=-1)
