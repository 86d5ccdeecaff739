"""Joins four images into one (https://arxiv.org/abs/2004.10934)."""

from collections.abc import Sequence

import tensorflow as tf


def mosaic(
    images: Sequence[tf.Tensor],
    boxes: Sequence[tf.Tensor],
    size: Sequence[int],
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Four images side by side, two by two, around a random split point.

    Args:
        images: four uint8 [h, w, 3] of any sizes; each is stretched to its quarter.
        boxes: four float32 [n, 4] xyxy pixels of these images.
        size: two static ints, (height, width) of the result.
        seed: [2]; the split lies at 25 to 75 % of either side.

    Returns:
        `(image uint8 [size[0], size[1], 3], boxes float32 [sum of n, 4])`, in the images' order.
    """
    share = tf.random.stateless_uniform([2], seed, 0.25, 0.75)
    split = tf.cast(share * tf.constant(size, tf.float32), tf.int32)
    split = tf.clip_by_value(split, 1, tf.constant(size) - 1)
    heights, widths = [split[0], size[0] - split[0]], [split[1], size[1] - split[1]]
    tiles, moved = [], []
    for k in range(4):
        row, column = divmod(k, 2)
        tile = tf.stack([heights[row], widths[column]])
        corner = tf.stack([row * split[0], column * split[1]])
        tiles.append(tf.image.resize(images[k], tile))
        stretch = tf.cast(tile / tf.shape(images[k])[:2], tf.float32)
        shift = tf.cast(corner, tf.float32)
        moved.append(boxes[k] * tf.tile(stretch[::-1], [2]) + tf.tile(shift[::-1], [2]))
    rows = [tf.concat(tiles[:2], axis=1), tf.concat(tiles[2:], axis=1)]
    image = tf.cast(tf.round(tf.concat(rows, axis=0)), tf.uint8)
    return tf.ensure_shape(image, [*size, 3]), tf.concat(moved, axis=0)
