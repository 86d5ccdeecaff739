"""Training augmentation of one image with its boxes: what to do, and the geometric steps.

Every step is a pure function of the image, its boxes and a stateless seed; pixels and boxes move in
the same function.
"""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from tfdet.data.autoaugment import POLICIES, apply_policy
from tfdet.data.colour import grid_mask, hsv_jitter
from tfdet.errors import UserError
from tfdet.ops.letterbox import pad_to_canvas


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """What is done to a training image.

    Attributes:
        geometry: how an image comes onto the canvas: "crop" scales it and cuts or pads it,
            EfficientDet's way; "affine" moves it, or a mosaic of images, by a random map, YOLO's.
        flip, flip_vertical: probabilities of mirroring left to right and upside down.
        hue, saturation, value: each is multiplied by a uniform factor from 1 -+ this.
        mosaic: probability of joining the image with others. "crop" stretches four to quarters of
            the canvas; "affine" lets four or nine keep their shape.

        For "crop":
        jitter_min, jitter_max: the image is scaled by a uniform factor from this range, relative to
            the size that just fits the canvas, then cropped at random; (1, 1) only fits it.
        autoaugment: "" for none, "v0" for AutoAugment's detection policy, "randaug".
        grid_mask: probability of blackening the squares of a grid.

        For "affine", where the image first is fitted to the canvas:
        mosaic_nine: share of the mosaics that have nine images, not four.
        translate: the middle comes to lie at 0.5 -+ this share of the canvas.
        scale: factor uniform in 1 - this to 1.1 + this.
        degrees, shear: limits of the turn and of the slant, in degrees.
        perspective: limit of the change of scale by pixel, at most 0.001.
        mixup: probability of blending with the picture of another image.
        paste_in: probability of pasting objects of other images in; they need outlines.
    """

    geometry: str = "crop"
    flip: float = 0.5
    flip_vertical: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    value: float = 0.0
    mosaic: float = 0.0
    jitter_min: float = 0.1
    jitter_max: float = 2.0
    autoaugment: str = ""
    grid_mask: float = 0.0
    mosaic_nine: float = 0.2
    translate: float = 0.2
    scale: float = 0.9
    degrees: float = 0.0
    shear: float = 0.0
    perspective: float = 0.0
    mixup: float = 0.0
    paste_in: float = 0.0

    def __post_init__(self):
        if self.geometry not in GEOMETRIES:
            known = " or ".join(repr(name) for name in GEOMETRIES)
            raise UserError(f"augment.geometry must be {known}, got {self.geometry!r}")
        for key in _PROBABILITIES:
            value = getattr(self, key)
            if not 0 <= value <= 1:
                raise UserError(f"augment.{key} must be a probability in 0..1, got {value}")
        for key, (low, high) in _RANGES.items():
            value = getattr(self, key)
            if not low <= value <= high:
                raise UserError(f"augment.{key} must be in {low}..{high}, got {value}")
        if self.autoaugment not in ("", *POLICIES):
            known = " or ".join(repr(policy) for policy in POLICIES)
            raise UserError(f"augment.autoaugment must be '' or {known}, got {self.autoaugment!r}")
        if not 0 < self.jitter_min <= self.jitter_max:
            raise UserError(
                "augment.jitter_min and jitter_max must be 0 < min <= max, got"
                f" {self.jitter_min} and {self.jitter_max}"
            )
        self._check_geometry()

    def _check_geometry(self) -> None:
        """Refuses settings that the geometry would ignore."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for geometry, keys in GEOMETRIES.items():
            changed = [key for key in keys if getattr(self, key) != defaults[key]]
            if geometry != self.geometry and changed:
                raise UserError(
                    f"augment.{changed[0]} belongs to augment.geometry={geometry}, but the geometry"
                    f" is {self.geometry!r}; change one of them"
                )


# Geometry -> the keys that only it has.
GEOMETRIES = {
    "crop": ("jitter_min", "jitter_max", "autoaugment", "grid_mask"),
    "affine": (
        *("mosaic_nine", "translate", "scale", "degrees", "shear", "perspective"),
        *("mixup", "paste_in"),
    ),
}
_PROBABILITIES = (
    *("flip", "flip_vertical", "grid_mask", "mosaic", "mosaic_nine", "mixup", "paste_in"),
)
_RANGES = {
    "hue": (0, 1),
    "saturation": (0, 1),
    "value": (0, 1),
    "translate": (0, 1),
    "scale": (0, 0.99),
    "degrees": (0, 180),
    "shear": (0, 80),
    "perspective": (0, 0.001),
}


def flip_horizontally(image: tf.Tensor, boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirrors an image [H, W, 3] and its boxes [N, 4] (xyxy pixels) left to right."""
    width = tf.cast(tf.shape(image)[1], tf.float32)
    x0, y0, x1, y1 = tf.unstack(boxes, axis=1)
    # tf.reverse: the slice image[:, ::-1] takes fifteen times as long.
    return tf.reverse(image, [1]), tf.stack([width - x1, y0, width - x0, y1], axis=1)


def random_flip(
    image: tf.Tensor,
    boxes: tf.Tensor,
    probability: float,
    seed: tf.Tensor,
    flip=flip_horizontally,
) -> tuple[tf.Tensor, tf.Tensor]:
    """`flip_horizontally`, or another flip, with a probability."""
    is_flipped = tf.random.stateless_uniform([], seed) < probability
    return tf.cond(is_flipped, lambda: flip(image, boxes), lambda: (image, boxes))


def flip_vertically(image: tf.Tensor, boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirrors an image [H, W, 3] and its boxes [N, 4] (xyxy pixels) upside down."""
    height = tf.cast(tf.shape(image)[0], tf.float32)
    x0, y0, x1, y1 = tf.unstack(boxes, axis=1)
    return tf.reverse(image, [0]), tf.stack([x0, height - y1, x1, height - y0], axis=1)


def random_flips(
    image: tf.Tensor, boxes: tf.Tensor, config: AugmentConfig, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirrors an image and its boxes left to right and upside down, as often as is asked for."""
    image, boxes = random_flip(image, boxes, config.flip, seed)
    if config.flip_vertical:
        seed = tf.random.fold_in(seed, 1)
        image, boxes = random_flip(image, boxes, config.flip_vertical, seed, flip_vertically)
    return image, boxes


def random_grid_mask(image: tf.Tensor, probability: float, seed: tf.Tensor) -> tf.Tensor:
    """`colour.grid_mask` with a probability.

    The official code draws this probability and the angle from normal distributions; here both are
    uniform, as the paper says.
    """
    chance_seed, mask_seed = tf.unstack(tf.random.split(seed, 2))
    is_masked = tf.random.stateless_uniform([], chance_seed) < probability
    return tf.cond(is_masked, lambda: grid_mask(image, mask_seed), lambda: image)


def jitter_and_crop(
    image: tf.Tensor,
    boxes: tf.Tensor,
    size: Sequence[int],
    pad_value: Sequence[float],
    jitter: tuple[float, float],
    seed: tf.Tensor,
    num_points: int | tf.Tensor = 0,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Scales an image at random and cuts or pads it to a canvas.

    The window is chosen in whole pixels of the source and only the window is resized. That is the
    same as resizing all of it and cropping, at a fraction of the work for large factors, and boxes
    follow the pixels exactly.

    Args:
        image: uint8 or float [H, W, 3].
        boxes: float32 [N, 4] xyxy pixels.
        size: two static ints, (height, width) of the canvas.
        pad_value: colour of the padding, three floats.
        jitter: range of the factor.
        seed: [2].
        num_points: this many of the last boxes are points of outlines (x, y, x, y), which are
            moved, but not clipped.

    Returns:
        `(canvas float32 [size[0], size[1], 3], boxes float32 [N, 4], scale float32 scalar)`. Boxes
        are clipped to the visible part of the image; those outside of it have no area.
    """
    factor_seed, window_seed = tf.unstack(tf.random.split(seed, 2))
    factor = tf.random.stateless_uniform([], factor_seed, jitter[0], jitter[1])
    source = tf.shape(image)[:2]
    canvas = tf.constant(size, tf.float32)
    scale = factor * tf.reduce_min(canvas / tf.cast(source, tf.float32))
    window = tf.minimum(source, tf.cast(tf.math.ceil(canvas / scale), tf.int32))
    new_size = tf.cast(tf.round(tf.cast(window, tf.float32) * scale), tf.int32)
    new_size = tf.clip_by_value(new_size, 1, tf.constant(size, tf.int32))
    room = tf.cast(source - window + 1, tf.float32)
    start = tf.cast(tf.random.stateless_uniform([2], window_seed) * room, tf.int32)
    start = tf.minimum(start, source - window)

    part = tf.slice(image, [start[0], start[1], 0], [window[0], window[1], 3])
    pixels = tf.cast(tf.image.resize(part, new_size), tf.float32)
    stretch = tf.tile(tf.cast(new_size / window, tf.float32)[::-1], [2])  # x, y, x, y
    shift = tf.tile(tf.cast(start, tf.float32)[::-1], [2])
    limits = tf.tile(tf.cast(new_size, tf.float32)[::-1], [2])
    boxes = (boxes - shift) * stretch
    is_box = tf.range(tf.shape(boxes)[0]) < tf.shape(boxes)[0] - num_points
    boxes = tf.where(is_box[:, tf.newaxis], tf.clip_by_value(boxes, 0.0, limits), boxes)
    return pad_to_canvas(pixels, size, pad_value), boxes, scale


def has_area(boxes: tf.Tensor) -> tf.Tensor:
    """Which boxes [N, 4] (xyxy) still have an area: bool [N]."""
    return tf.reduce_all(boxes[:, 2:] > boxes[:, :2], axis=1)


def augment_image(
    image: tf.Tensor,
    boxes: tf.Tensor,
    config: AugmentConfig,
    size: Sequence[int],
    pad_value: Sequence[float],
    seed: tf.Tensor,
    num_points: int | tf.Tensor = 0,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """All steps of geometry "crop" for one training image, ending on the canvas.

    See `jitter_and_crop` for what it takes and gives.

    Mosaics are joined before, where the other images are at hand: `pipeline.train_batches`.
    """
    grid_seed, policy_seed, flip_seed, jitter_seed, colour_seed = tf.unstack(
        tf.random.split(seed, 5)
    )
    if config.grid_mask:
        image = random_grid_mask(image, config.grid_mask, grid_seed)
    if config.autoaugment:
        image, boxes = apply_policy(config.autoaugment, image, boxes, policy_seed)
    gains = (config.hue, config.saturation, config.value)
    if any(gains):
        image = hsv_jitter(tf.cast(image, tf.float32), gains, colour_seed)
    image, boxes = random_flips(image, boxes, config, flip_seed)
    jitter = (config.jitter_min, config.jitter_max)
    return jitter_and_crop(image, boxes, size, pad_value, jitter, jitter_seed, num_points)
