"""Several images with their objects, side by side on one canvas, as YOLO's mosaics do it.

Unlike `mosaic.mosaic`, images keep their shape and are cut where they leave the canvas.
"""

from collections.abc import Sequence

import tensorflow as tf

from tfdet.data.example import Example
from tfdet.ops.letterbox import fitted_size

GREY = 114  # published: what is seen beside the images


def fit(example: Example, size: Sequence[int]) -> tuple[Example, tf.Tensor]:
    """An example scaled up or down until it just fits into (height, width); and the scale."""
    new_size, scale = fitted_size(tf.shape(example.image)[:2], size)
    stretch = tf.cast(new_size / tf.shape(example.image)[:2], tf.float32)
    stretch = tf.tile(tf.reverse(stretch, [0]), [2])  # x, y, x, y
    image = tf.cast(tf.round(tf.image.resize(example.image, new_size)), tf.uint8)
    boxes, sides = example.boxes * stretch, example.sides * stretch
    return example._replace(image=image, boxes=boxes, sides=sides), scale


def centred_corner(image_size: tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """Where an image [2] (height, width) begins on a canvas with equal bars on both sides: [2]."""
    bars = tf.cast(tf.constant(size) - image_size, tf.float32) / 2
    return tf.cast(tf.round(bars - 0.1), tf.int32)  # published: an odd bar is shorter before


def four_corners(sizes: tf.Tensor, size: Sequence[int], seed: tf.Tensor) -> tf.Tensor:
    """Places of four images around a random point, on a canvas of twice the size.

    Args:
        sizes: int32 [4, 2], (height, width) of the images, each at most `size`.
        size: (height, width) of half the canvas; the point lies at 0.5 to 1.5 of it.
        seed: [2].

    Returns:
        int32 [4, 2], (y, x) of the top-left corners; they may lie outside of the canvas.
    """
    centre = tf.random.stateless_uniform([2], seed, 0.5, 1.5) * tf.constant(size, tf.float32)
    is_before = tf.constant([[1, 1], [1, 0], [0, 1], [0, 0]])
    return tf.cast(centre, tf.int32) - is_before * sizes


def nine_corners(sizes: tf.Tensor, size: Sequence[int], seed: tf.Tensor) -> tf.Tensor:
    """Places of nine images, one ringed by eight, on a canvas of twice the size.

    On three times the size, the first image begins at `size`; the others follow clockwise from the
    one above it, each next to the one before. The canvas is cut from that at random. See
    `four_corners`.
    """
    h, w = tf.unstack(sizes, axis=1)
    places = [
        (0, 0),
        (-h[1], 0),  # above
        (-h[2], w[1]),
        (0, w[0]),  # right
        (h[3], w[0]),
        (h[0], w[0] - w[5]),  # below
        (h[0], w[0] - w[5] - w[6]),
        (h[0] - h[7], -w[7]),  # left
        (h[0] - h[7] - h[8], -w[8]),
    ]
    cut = tf.random.stateless_uniform([2], seed) * tf.constant(size, tf.float32)
    return tf.stack(places) + tf.constant(size) - tf.cast(cut, tf.int32)


def collage(examples: Sequence[Example], corners: tf.Tensor, size: Sequence[int]) -> Example:
    """Examples on one grey canvas (height, width) as one example; later ones cover earlier ones.

    Images are rounded on the way, to have a quarter of the memory to move.
    Boxes and outlines are those of whole images: they may reach beyond the canvas. `index` and
    `size` are those of the first example.
    """
    canvas = tf.fill([*size, 3], tf.constant(GREY, tf.uint8))
    moved, num_objects = [], 0
    for example, corner in zip(examples, tf.unstack(corners, num=len(examples)), strict=True):
        canvas = insert(canvas, example.image, corner)
        shift = tf.tile(tf.cast(tf.reverse(corner, [0]), tf.float32), [2])  # x, y, x, y
        moved.append((example.boxes + shift, example.sides + shift, example.owners + num_objects))
        num_objects += tf.shape(example.boxes)[0]
    boxes, sides, owners = (tf.concat(x, axis=0) for x in zip(*moved, strict=True))
    return examples[0]._replace(
        image=tf.ensure_shape(canvas, [*size, 3]),
        boxes=boxes,
        labels=tf.concat([example.labels for example in examples], axis=0),
        is_crowd=tf.concat([example.is_crowd for example in examples], axis=0),
        sides=sides,
        owners=owners,
    )


def add_frame(example: Example) -> Example:
    """The example with one grey pixel more on all sides."""
    grey = tf.constant(GREY, example.image.dtype)
    image = tf.pad(example.image, [[1, 1], [1, 1], [0, 0]], constant_values=grey)
    return example._replace(image=image, boxes=example.boxes + 1, sides=example.sides + 1)


def insert(canvas: tf.Tensor, image: tf.Tensor, corner: tf.Tensor) -> tf.Tensor:
    """A canvas [H, W, 3] with an image at a corner (y, x); what reaches beyond is cut off."""
    size = tf.shape(canvas)[:2]
    top, left = tf.unstack(tf.clip_by_value(corner, 0, size))
    bottom, right = tf.unstack(tf.clip_by_value(corner + tf.shape(image)[:2], 0, size))
    y, x = tf.unstack(corner)
    part = image[top - y : bottom - y, left - x : right - x]
    # A fifth of the time of tf.raw_ops.TensorStridedSliceUpdate.
    rows = tf.concat([canvas[top:bottom, :left], part, canvas[top:bottom, right:]], axis=1)
    return tf.concat([canvas[:top], rows, canvas[bottom:]], axis=0)
