"""Fits images into a canvas: the one function behind training, evaluation, predict and export."""

from collections.abc import Sequence

import tensorflow as tf


def fitted_size(image_size: tf.Tensor, size: Sequence[int] | tf.Tensor) -> tuple:
    """Size of an image that is scaled, keeping its aspect ratio, until it fits into a canvas.

    Integer arithmetic, so that the longer side fills the canvas exactly: in float32 480 * (512/480)
    may be 511.99997 and lose a row.

    Args:
        image_size: int [2], (height, width) of the image.
        size: int [2], (height, width) of the canvas.

    Returns:
        `(new_size int32 [2], scale float32 scalar)`; scale is canvas pixels per image pixel.
    """
    height, width = tf.unstack(tf.cast(image_size, tf.int64))
    canvas_height, canvas_width = tf.unstack(tf.cast(size, tf.int64))
    is_tall = canvas_height * width <= canvas_width * height
    new_height = tf.where(is_tall, canvas_height, height * canvas_width // width)
    new_width = tf.where(is_tall, width * canvas_height // height, canvas_width)
    scale = tf.where(is_tall, canvas_height / height, canvas_width / width)
    new_size = tf.maximum(tf.stack([new_height, new_width]), 1)
    return tf.cast(new_size, tf.int32), tf.cast(scale, tf.float32)


def pad_to_canvas(images: tf.Tensor, size: Sequence[int], pad_value: Sequence[float]) -> tf.Tensor:
    """Pads float images [..., h, w, 3] at the bottom and the right with a colour to `size`."""
    shape, colour = tf.shape(images), tf.constant(pad_value, tf.float32)
    leading, rows, columns = shape[:-3], shape[-3], shape[-2]
    # Blocks of colour beside and below: half the time of tf.pad, which knows one value only.
    beside = tf.concat([leading, [rows, size[1] - columns, 3]], axis=0)
    below = tf.concat([leading, [size[0] - rows, size[1], 3]], axis=0)
    wide = tf.concat([images, tf.broadcast_to(colour, beside)], axis=-2)
    canvas = tf.concat([wide, tf.broadcast_to(colour, below)], axis=-3)
    return tf.ensure_shape(canvas, [*images.shape[:-3], size[0], size[1], 3])


def letterbox(
    images: tf.Tensor, size: Sequence[int], pad_value: Sequence[float]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Scales images into the top-left corner of a canvas and pads the rest with a colour.

    Args:
        images: uint8 or float [H, W, 3] or [B, H, W, 3], 0-255; the sizes may be unknown until run
            time, B may be 0.
        size: two static ints, (height, width) of the canvas.
        pad_value: three floats, the colour of the padding.

    Returns:
        `(canvas float32 [..., size[0], size[1], 3], scale float32 scalar)`; a box in pixels of the
        canvas is the box in pixels of the image times scale.
    """
    new_size, scale = fitted_size(tf.shape(images)[-3:-1], size)
    resized = tf.image.resize(images, new_size)
    return pad_to_canvas(tf.cast(resized, tf.float32), size, pad_value), scale
