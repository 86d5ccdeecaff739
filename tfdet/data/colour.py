"""Changes of pixels that leave boxes where they are, on uint8 images [H, W, 3] unless said."""

from collections.abc import Sequence

import keras
import tensorflow as tf

_EQUALIZATION = keras.layers.Equalization(value_range=(0, 255))


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Each channel with a flat histogram."""
    return _to_uint8(_EQUALIZATION(image))


def colour(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Saturation: 0 is grey, 1 the image, above 1 stronger colours."""
    grey = tf.tile(tf.image.rgb_to_grayscale(image), [1, 1, 3])
    return _blend(grey, image, factor)


def sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """0 is a light blur, 1 the image, above 1 sharper; the outermost pixels stay."""
    weights = tf.constant([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # that of Pillow's SMOOTH
    kernel = tf.tile(weights[:, :, tf.newaxis, tf.newaxis], [1, 1, 3, 1])
    pixels = tf.cast(image, tf.float32)
    inner = tf.nn.depthwise_conv2d(pixels[tf.newaxis], kernel, [1, 1, 1, 1], "VALID")[0]
    border = [[1, 1], [1, 1], [0, 0]]
    is_inner = tf.pad(tf.ones_like(inner, tf.bool), border)
    return _blend(tf.where(is_inner, tf.pad(inner, border), pixels), image, factor)


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts the values from the threshold on."""
    return tf.where(tf.cast(image, tf.float32) < threshold, image, 255 - image)


def solarize_add(image: tf.Tensor, addition: tf.Tensor) -> tf.Tensor:
    """Adds to the values of the darker half."""
    return tf.where(image < 128, _to_uint8(tf.cast(image, tf.float32) + addition), image)


def cutout(image: tf.Tensor, half_side: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A grey square of twice half_side pixels around a random pixel."""
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    place = tf.random.stateless_uniform([2], seed)
    y = tf.abs(tf.range(height) - tf.cast(place[0] * tf.cast(height, tf.float32), tf.int32))
    x = tf.abs(tf.range(width) - tf.cast(place[1] * tf.cast(width, tf.float32), tf.int32))
    side = tf.cast(half_side, tf.int32)
    is_cut = (y < side)[:, tf.newaxis, tf.newaxis] & (x < side)[tf.newaxis, :, tf.newaxis]
    return tf.where(is_cut, tf.constant(128, tf.uint8), image)


def grid_mask(image: tf.Tensor, seed: tf.Tensor, kept: float = 0.6) -> tf.Tensor:
    """Blackens the squares of a slightly turned grid (https://arxiv.org/abs/2001.04086).

    The pitch is random, up to half of the image's height or a third of its width, the turn up to
    10 degrees. `kept` is the share of the pitch that stays in each direction.
    """
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    draws = tf.random.stateless_uniform([4], seed)
    bounds = tf.sort(tf.stack([height * 0.5, width * 0.3]))
    pitch = tf.maximum(bounds[0] + draws[0] * (bounds[1] - bounds[0]), 2.0)
    angle = (2 * draws[1] - 1) * (10 * 3.14159265 / 180)
    y, x = tf.range(height)[:, tf.newaxis], tf.range(width)[tf.newaxis]
    u = (x * tf.cos(angle) - y * tf.sin(angle)) / pitch + draws[2]
    v = (x * tf.sin(angle) + y * tf.cos(angle)) / pitch + draws[3]
    is_dropped = (u - tf.floor(u) > kept) & (v - tf.floor(v) > kept)
    return tf.where(is_dropped[:, :, tf.newaxis], tf.constant(0, image.dtype), image)


def hsv_jitter(image: tf.Tensor, gains: Sequence[float], seed: tf.Tensor) -> tf.Tensor:
    """Hue, saturation and value, each times a uniform factor from 1 - gain to 1 + gain.

    The published code rounds all three to whole numbers (hue to 180 steps); here nothing is.

    Args:
        image: float32 [H, W, 3], 0-255.
        gains: limits for hue, saturation and value.
        seed: [2].

    Returns:
        float32 [H, W, 3], 0-255; the hue turns round, the others stop at their largest value.
    """
    factors = 1 + tf.constant(gains) * tf.random.stateless_uniform([3], seed, -1.0, 1.0)
    hsv = factors * tf.image.rgb_to_hsv(image / 255)
    hsv = tf.minimum(hsv - tf.floor(hsv) * tf.constant([1.0, 0.0, 0.0]), 1.0)
    return 255 * tf.image.hsv_to_rgb(hsv)


def _blend(start: tf.Tensor, end: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """start + factor * (end - start) as uint8; factors above 1 go beyond `end`."""
    start, end = tf.cast(start, tf.float32), tf.cast(end, tf.float32)
    return _to_uint8(start + factor * (end - start))


def _to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(pixels, 0, 255), tf.uint8)
