"""Outlines to masks in the frames of boxes."""

import tensorflow as tf


def rasterize(sides: tf.Tensor, owners: tf.Tensor, boxes: tf.Tensor, size: int) -> tf.Tensor:
    """Which cells of each box lie inside of its object, by the even-odd rule at their middles.

    Args:
        sides: float32 [E, 4], sides of outlines, each from (x, y) to (x, y). They may reach beyond
            the boxes.
        owners: int32 [E], the object of each side.
        boxes: float32 [N, 4] xyxy in the same pixels.
        size: Q, cells along each side of a box.

    Returns:
        uint8 [N, Q, Q] of 0 and 1.
    """
    count = tf.shape(boxes)[0]
    near = tf.gather(boxes, owners)  # [E, 4]
    cell = (near[:, 2:] - near[:, :2]) / size
    middles = (tf.range(size, dtype=tf.float32) + 0.5)[tf.newaxis]
    y = near[:, 1:2] + middles * cell[:, 1:]  # [E, Q], of the rows
    x0, y0, x1, y1 = tf.split(sides, 4, axis=1)
    is_crossed = (y0 > y) != (y1 > y)
    crossing = x0 + (y - y0) / tf.where(y0 == y1, 1.0, y1 - y0) * (x1 - x0)
    # The first column whose middle is to the right of the crossing.
    column = tf.math.ceil(tf.math.divide_no_nan(crossing - near[:, :1], cell[:, :1]) - 0.5)
    column = tf.cast(tf.clip_by_value(column, 0.0, float(size)), tf.int32)
    row = tf.broadcast_to(tf.range(size)[tf.newaxis], tf.shape(column))
    place = (owners[:, tf.newaxis] * size + row) * (size + 1) + column
    crossings = tf.math.unsorted_segment_sum(
        tf.cast(is_crossed, tf.int32), place, count * size * (size + 1)
    )
    crossings = tf.reshape(crossings, [count, size, size + 1])
    inside = tf.math.cumsum(crossings, axis=2)[..., :size] % 2
    return tf.cast(inside, tf.uint8)
