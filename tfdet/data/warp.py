"""YOLO's random affine map: moves a picture and the outlines of its objects into a new frame."""

import math
from collections.abc import Sequence

import tensorflow as tf

from tfdet.data import affine
from tfdet.data.collage import GREY
from tfdet.data.example import Example
from tfdet.data.visible import visible_boxes

# Published limits of a box that is still worth learning.
_LEAST_SIDE = 2.0  # pixels
_LARGEST_ASPECT = 20.0
_LEAST_SHARE_OF_OUTLINE = 0.01  # of the area that the box had, at the new scale
_LEAST_SHARE_OF_BOX = 0.1


def random_matrix(
    centre: tf.Tensor,
    size: Sequence[int],
    translate: float,
    scale: float,
    degrees: float,
    shear: float,
    perspective: float,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """A random map of a picture into a frame, and by how much it enlarges.

    Args:
        centre: float32 [2], the point (x, y) of the picture that is turned and scaled around.
        size: (height, width) of the frame.
        translate: that point comes to lie at 0.5 -+ translate of the frame.
        scale: the factor is uniform in [1 - scale, 1.1 + scale].
        degrees, shear: limits of the turn and of the slant in either direction, in degrees.
        perspective: limit of the change of scale by pixel.
        seed: [2].

    Returns:
        `(matrix float32 [3, 3], factor scalar)`.
    """
    draws = tf.random.stateless_uniform([8], seed)
    spread = 2 * draws - 1
    factor = 1 - scale + draws[0] * (0.1 + 2 * scale)
    tilt = perspective * spread[1:3]
    slant = tf.tan(shear * math.pi / 180 * spread[3:5])
    target = (0.5 + translate * spread[5:7]) * tf.constant(size[::-1], tf.float32)

    to_origin = _square(affine.translation(-centre[0], -centre[1]))
    leaning = tf.concat([tf.eye(3)[:2], [[tilt[0], tilt[1], 1.0]]], axis=0)
    turn = _square(affine.rotation(degrees * spread[7], tf.zeros([2])))
    enlarge = tf.linalg.diag(tf.stack([factor, factor, 1.0]))
    slanting = _square(affine.shear(slant[0], slant[1]))
    to_target = _square(affine.translation(target[0], target[1]))
    return to_target @ slanting @ enlarge @ turn @ leaning @ to_origin, factor


def warp(
    example: Example,
    matrix: tf.Tensor,
    factor: tf.Tensor,
    size: Sequence[int],
    has_outlines: bool,
    is_upright: bool = False,
) -> Example:
    """An example after a map into a frame of (height, width); around it all is grey.

    Boxes are drawn again around what is seen of the outlines. Objects of which too little is left
    are dropped. The image becomes float32, `sides` and `owners` empty.

    Args:
        example: with `sides`.
        matrix: [3, 3], from the example's image to the frame.
        factor: by how much it enlarges, to compare areas.
        size: (height, width) of the frame.
        has_outlines: whether `sides` are outlines, and not boxes; a box must keep more of itself.
        is_upright: promises that the map only scales and shifts, which takes less time.
    """
    height, width = tf.unstack(tf.cast(tf.shape(example.image)[:2], tf.float32))
    frame = tf.stack([width, height])
    window = tf.constant(size[::-1], tf.float32)
    num_objects = tf.shape(example.boxes)[0]
    boxes = visible_boxes(example.sides, example.owners, num_objects, frame, matrix, window)
    before = tf.clip_by_value(example.boxes, 0.0, tf.tile(frame, [2]))
    least_share = _LEAST_SHARE_OF_OUTLINE if has_outlines else _LEAST_SHARE_OF_BOX
    keep = _is_kept(before, boxes, factor, least_share)
    if is_upright:
        image = affine.scale_pixels(example.image, matrix, size, GREY)
    else:
        image = affine.project_pixels(tf.cast(example.image, tf.float32), matrix, size, GREY)
    return example._replace(
        image=tf.ensure_shape(image, [*size, 3]),
        boxes=tf.boolean_mask(boxes, keep),
        labels=tf.boolean_mask(example.labels, keep),
        is_crowd=tf.boolean_mask(example.is_crowd, keep),
        sides=example.sides[:0],
        owners=example.owners[:0],
    )


def _is_kept(before, after, factor, least_share: float) -> tf.Tensor:
    """Which boxes [N, 4] are left large enough by a map that enlarges by a factor."""
    width, height = after[:, 2] - after[:, 0], after[:, 3] - after[:, 1]
    is_large = (width > _LEAST_SIDE) & (height > _LEAST_SIDE)
    is_compact = tf.maximum(width, height) < _LARGEST_ASPECT * tf.minimum(width, height)
    area_before = tf.reduce_prod(before[:, 2:] - before[:, :2], axis=1) * factor**2
    return is_large & is_compact & (width * height > least_share * area_before)


def _square(matrix: tf.Tensor) -> tf.Tensor:
    """[3, 3] of an affine matrix [2, 3]."""
    return tf.concat([matrix, [[0.0, 0.0, 1.0]]], axis=0)
