"""Moves the pixels of an image and its boxes by an affine map.

Matrices [2, 3] map (x, y, 1) of the image to (x, y) of the result, in pixel edges: the first pixel
covers 0 to 1.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

FILL = 128.0  # grey of what comes in from outside, as published for the AutoAugment policies


def transform(image: tf.Tensor, boxes: tf.Tensor, matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Image [H, W, 3] and boxes [N, 4] (xyxy) after an affine map, in a frame of the same size.

    A box becomes the smallest one around its four moved corners, clipped to the frame; outside of
    the frame it has no area.
    """
    return transform_pixels(image, matrix), _transform_boxes(boxes, matrix, tf.shape(image))


def transform_pixels(image: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """The image [H, W, 3] after an affine map; new parts are grey."""
    projection = tf.concat([matrix, [[0.0, 0.0, 1.0]]], axis=0)
    moved = project_pixels(image, projection, tf.shape(image)[:2], FILL)
    return tf.ensure_shape(moved, image.shape)


def project_pixels(
    image: tf.Tensor, matrix: tf.Tensor, size: Sequence[int] | tf.Tensor, fill: float
) -> tf.Tensor:
    """An image [H, W, 3] after a projective map, [size[0], size[1], 3] of the image's type.

    Args:
        image: uint8 (values are cut down to whole numbers) or float32.
        matrix: [3, 3]; maps homogeneous (x, y, 1) of the image to (x, y, 1) of the result.
        size: (height, width) of the result.
        fill: value of what comes in from outside.
    """
    # The operation maps results to sources and counts in pixel centres, half a pixel from our
    # edges.
    half = tf.constant([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    back = tf.constant([[1.0, 0.0, -0.5], [0.0, 1.0, -0.5], [0.0, 0.0, 1.0]])
    inverse = back @ tf.linalg.inv(matrix) @ half
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=tf.reshape(inverse / inverse[2, 2], [1, 9])[:, :8],
        output_shape=size,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=fill,
    )
    return moved[0]


def scale_pixels(
    image: tf.Tensor, matrix: tf.Tensor, size: Sequence[int], fill: float
) -> tf.Tensor:
    """`project_pixels` for maps that only scale and shift, in less than half the time.

    Unlike there, the outer half of the outermost pixels is filled too.

    Args:
        image: uint8 or float32 [H, W, 3] of at least 2 x 2 pixels.
        matrix, size, fill: see there; a size of at least 2 x 2.

    Returns:
        float32 [size[0], size[1], 3].
    """
    last = tf.constant(size, tf.float32)
    ends = tf.stack([[0.5, 0.5], last - 0.5])  # centres of the corner pixels, (y, x)
    scale = tf.stack([matrix[1, 1], matrix[0, 0]])
    shift = tf.stack([matrix[1, 2], matrix[0, 2]])
    places = (ends - shift) / scale - 0.5  # in pixel centres of the image
    whole = tf.cast(tf.shape(image)[:2] - 1, tf.float32)
    window = tf.reshape(places / whole, [1, 4])
    pixels = image[tf.newaxis]
    return tf.image.crop_and_resize(pixels, window, [0], size, extrapolation_value=fill)[0]


def _transform_boxes(boxes: tf.Tensor, matrix: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    x0, y0, x1, y1 = tf.unstack(boxes, axis=1)
    corners = tf.stack([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])  # [4, 2, N]
    moved = tf.einsum("ij,cjn->cin", matrix[:, :2], corners) + matrix[:, 2:]
    sides = tf.concat([tf.reduce_min(moved, axis=0), tf.reduce_max(moved, axis=0)], axis=0)
    limits = tf.cast(tf.tile(tf.reverse(shape[:2], [0]), [2]), tf.float32)
    return tf.clip_by_value(tf.transpose(sides), 0.0, limits)


def translation(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Matrix of a shift by (x, y) pixels."""
    return tf.stack([[1.0, 0.0, x], [0.0, 1.0, y]])


def shear(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Matrix that adds x * (row) to columns and y * (column) to rows."""
    return tf.stack([[1.0, x, 0.0], [y, 1.0, 0.0]])


def rotation(degrees: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Matrix of a turn around the middle of an image of the given shape [H, W, 3]."""
    angle = degrees * math.pi / 180
    cosine, sine = tf.cos(angle), tf.sin(angle)
    y, x = tf.unstack(tf.cast(shape[:2], tf.float32) / 2)
    return tf.stack(
        [[cosine, -sine, x - cosine * x + sine * y], [sine, cosine, y - sine * x - cosine * y]]
    )
