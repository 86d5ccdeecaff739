"""Training pictures as YOLOv7 makes them: mosaic, affine map, mixup, colours, paste-in, flips."""

from collections.abc import Sequence

import tensorflow as tf

from tfdet.data.augment import AugmentConfig, random_flips
from tfdet.data.collage import (
    add_frame,
    centred_corner,
    collage,
    fit,
    four_corners,
    nine_corners,
)
from tfdet.data.colour import hsv_jitter
from tfdet.data.example import Example, load_example, restore_shapes
from tfdet.data.loader import ImageLoader
from tfdet.data.paste import CutOuts, paste_in
from tfdet.data.warp import random_matrix, warp
from tfdet.errors import UserError
from tfdet.ops.as_written import as_written

_MIXUP_ALPHA = 8.0  # published: shares from Beta(8, 8), mostly near one half


class SceneMaker:
    """Makes training pictures from an image of a data set and random others.

    Args:
        loader: gives the images.
        config: with geometry "affine".
        size: two static ints, (height, width) of the pictures.
    """

    def __init__(self, loader: ImageLoader, config: AugmentConfig, size: Sequence[int]):
        # The far corner of a mosaic must stay on this side of the horizon.
        largest = 0.9 / (size[0] + size[1])
        if config.perspective > largest:
            raise UserError(
                f"augment.perspective may be at most {largest:.2g} for images of"
                f" {size[0]} x {size[1]} pixels, got {config.perspective}"
            )
        self._loader = loader
        self._config = config
        self._size = tuple(size)
        self._cut_outs = CutOuts(loader) if config.paste_in else None
        # Traced once each, though a picture may need both often: a quarter of the time to start.
        index, seed = tf.TensorSpec([], tf.int64), tf.TensorSpec([2], tf.int32)
        self._tile = tf.function(as_written(self._load_tile), input_signature=[index])
        self._moved = tf.function(as_written(self._move), input_signature=[index, seed])

    def make(self, index: tf.Tensor, seed: tf.Tensor) -> tuple[Example, tf.Tensor]:
        """The picture of an image: an example with image float32 [H, W, 3] 0-255, and its scale.

        Args:
            index: scalar int64.
            seed: [2]; all that is random follows from it.
        """
        config = self._config
        seeds = tf.unstack(tf.random.split(seed, 5))
        picture, scale = self._moved(index, seeds[0])
        if config.mixup:
            picture = _maybe(config.mixup, picture, seeds[1], self._mixed)
        gains = (config.hue, config.saturation, config.value)
        if any(gains):
            picture = picture._replace(image=hsv_jitter(picture.image, gains, seeds[2]))
        if config.paste_in:
            picture = _maybe(
                config.paste_in, picture, seeds[3], lambda p, s: paste_in(p, self._cut_outs, s)
            )
        image, boxes = random_flips(picture.image, picture.boxes, config, seeds[4])
        return picture._replace(image=image, boxes=boxes), scale

    def _load_tile(self, index: tf.Tensor) -> tuple[Example, tf.Tensor]:
        """The example at a position, fitted to the size; and its scale."""
        return fit(load_example(self._loader, index, with_outlines=True), self._size)

    def _move(self, index: tf.Tensor, seed: tf.Tensor) -> tuple[Example, tf.Tensor]:
        """A mosaic around an image, or it alone, after the affine map; and the image's scale."""
        config = self._config
        chance_seed, mosaic_seed, map_seed = tf.unstack(tf.random.split(seed, 3))
        fitted, scale = self._tile(index)

        def alone():
            start = centred_corner(tf.shape(fitted.image)[:2], self._size)
            middle = tf.constant(self._size, tf.float32) / 2 - tf.cast(start, tf.float32)
            return add_frame(fitted), middle + 1

        def joined():
            return self._mosaic(fitted, mosaic_seed), tf.constant(self._size, tf.float32)

        picture, middle = _either(config.mosaic, chance_seed, joined, alone)
        y, x = tf.unstack(middle)
        matrix, factor = random_matrix(
            tf.stack([x, y]),
            self._size,
            config.translate,
            config.scale,
            config.degrees,
            config.shear,
            config.perspective,
            map_seed,
        )
        has_outlines = self._loader.dataset.outlines is not None
        is_upright = not (config.degrees or config.shear or config.perspective)
        moved = warp(picture, matrix, factor, self._size, has_outlines, is_upright)
        return moved, scale * factor

    def _mosaic(self, fitted: Example, seed: tf.Tensor) -> Example:
        """The fitted example among three or eight others on a canvas of twice the size."""
        chance_seed, choice_seed, place_seed = tf.unstack(tf.random.split(seed, 3))
        indices = self._random_indices(8, choice_seed)
        canvas = (2 * self._size[0], 2 * self._size[1])

        def of(count, place):
            tiles = [fitted, *(self._tile(indices[k])[0] for k in range(count - 1))]
            sizes = tf.stack([tf.shape(tile.image)[:2] for tile in tiles])
            return collage(tiles, place(sizes, self._size, place_seed), canvas)

        return _either(
            self._config.mosaic_nine,
            chance_seed,
            lambda: of(9, nine_corners),
            lambda: of(4, four_corners),
        )

    def _mixed(self, picture: Example, seed: tf.Tensor) -> Example:
        """The picture blended with that of a random other image; the objects of both."""
        choice_seed, other_seed, share_seed = tf.unstack(tf.random.split(seed, 3))
        index = self._random_indices(1, choice_seed)[0]
        other, _ = self._moved(index, other_seed)
        return mixup(picture, other, share_seed)

    def _random_indices(self, count: int, seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform([count], seed, 0, len(self._loader.dataset), tf.int64)


def mixup(first: Example, second: Example, seed: tf.Tensor) -> Example:
    """Two examples of one size blended, with the objects of both (https://arxiv.org/abs/1710.09412).

    `index` and `size` are those of the first.
    """
    weights = tf.random.stateless_gamma([2], seed, alpha=_MIXUP_ALPHA)
    share = weights[0] / (weights[0] + weights[1])
    return first._replace(
        image=share * first.image + (1 - share) * second.image,
        boxes=tf.concat([first.boxes, second.boxes], axis=0),
        labels=tf.concat([first.labels, second.labels], axis=0),
        is_crowd=tf.concat([first.is_crowd, second.is_crowd], axis=0),
    )


def _maybe(probability: float, picture: Example, seed: tf.Tensor, step) -> Example:
    """step(picture, seed) with a probability, otherwise the picture."""
    chance_seed, step_seed = tf.unstack(tf.random.split(seed, 2))
    changed = _either(probability, chance_seed, lambda: step(picture, step_seed), lambda: picture)
    image = tf.ensure_shape(changed.image, picture.image.shape)
    return restore_shapes(changed)._replace(image=image)


def _either(probability: float, seed: tf.Tensor, first, second):
    """first() with a probability, otherwise second(); only the chosen one is computed."""
    if probability in (0, 1):
        return first() if probability else second()
    return tf.cond(tf.random.stateless_uniform([], seed) < probability, first, second)
