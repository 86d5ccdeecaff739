"""Anchor boxes of a feature pyramid, as NumPy constants."""

import dataclasses
import functools
import math
from typing import Literal, get_args

import numpy as np

from tfdet.errors import UserError

Style = Literal["efficientdet", "detectron", "corner", "torchvision"]
CornerStyle = Literal["corner", "torchvision"]  # around the upper left corners of cells


@dataclasses.dataclass(frozen=True)
class AnchorConfig:
    """Which anchors every cell of a pyramid has (EfficientDet's, https://arxiv.org/abs/1911.09070).

    Attributes:
        min_level, max_level: finest and coarsest level; level l has stride 2^l.
        num_scales: anchor sizes per octave.
        aspect_ratios: width / height, or pairs (width factor, height factor).
        anchor_scale: size of the smallest anchor in strides; one number or one per level.
        style: "efficientdet": strides are image size / map size and may be fractions; a cell's
            anchors are ordered by scale, then ratio. "detectron" (RetinaNet's weights): strides are
            2^l; each ratio is rounded to whole pixels at the size of one stride and scaled then;
            ordered by ratio, then scale. "corner" (mmdetection's two-stage detectors): strides are
            2^l, and anchors stand around the upper left corners of the cells; ordered as
            "efficientdet". "torchvision": around those corners too, but strides are image size /
            map size, rounded down; an octave's size is rounded down, and half the sides of its
            anchors to the nearest whole pixel; ordered as "detectron".
    """

    min_level: int = 3
    max_level: int = 7
    num_scales: int = 3
    aspect_ratios: tuple[float | tuple[float, float], ...] = (1.0, 2.0, 0.5)
    anchor_scale: float | tuple[float, ...] = 4.0
    style: Style = "efficientdet"

    def __post_init__(self):
        if self.style not in get_args(Style):
            raise UserError(f"expected an anchor style of {get_args(Style)}, got {self.style!r}")
        if not 1 <= self.min_level <= self.max_level:
            raise UserError(
                "expected 1 <= min_level <= max_level, got "
                f"min_level={self.min_level}, max_level={self.max_level}"
            )
        if self.num_scales < 1 or not self.aspect_ratios:
            raise UserError(
                "expected at least one scale and one aspect ratio, got "
                f"num_scales={self.num_scales}, aspect_ratios={self.aspect_ratios}"
            )
        scales = self.anchor_scale if isinstance(self.anchor_scale, list | tuple) else ()
        numbers = (*self.aspect_ratios, *(scales or [self.anchor_scale]))
        sides = [side for n in numbers for side in (n if isinstance(n, list | tuple) else [n])]
        if not all(0 < side < math.inf for side in sides):
            raise UserError(
                "expected aspect ratios and scales above 0, got "
                f"aspect_ratios={self.aspect_ratios}, anchor_scale={self.anchor_scale}"
            )
        # Lists (from YAML or JSON) become tuples, so that equal configs are equal and hashable.
        ratios = tuple(tuple(r) if isinstance(r, list | tuple) else r for r in self.aspect_ratios)
        object.__setattr__(self, "aspect_ratios", ratios)
        if isinstance(self.anchor_scale, list | tuple):
            object.__setattr__(self, "anchor_scale", tuple(self.anchor_scale))
            if len(self.anchor_scale) != self.num_levels:
                raise UserError(
                    f"expected one anchor_scale or one for each of {self.num_levels} levels, "
                    f"got {len(self.anchor_scale)}: {self.anchor_scale}"
                )

    @property
    def num_levels(self) -> int:
        return self.max_level - self.min_level + 1

    @property
    def anchors_per_cell(self) -> int:
        return self.num_scales * len(self.aspect_ratios)

    def level_scale(self, level: int) -> float:
        """`anchor_scale` of one level."""
        if isinstance(self.anchor_scale, tuple):
            return self.anchor_scale[level - self.min_level]
        return self.anchor_scale


def level_sizes(
    image_size: tuple[int, int], min_level: int, max_level: int
) -> tuple[tuple[int, int], ...]:
    """(height, width) of each level's map: the image halved `level` times, rounded up each time."""
    sizes = [tuple(int(side) for side in image_size)]
    for _ in range(max_level):
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return tuple(sizes[min_level:])


def anchor_counts(config: AnchorConfig, image_size: tuple[int, int]) -> tuple[int, ...]:
    """Number of anchors on each level, finest first."""
    sizes = level_sizes(image_size, config.min_level, config.max_level)
    return tuple(height * width * config.anchors_per_cell for height, width in sizes)


def anchors(
    config: AnchorConfig, image_size: tuple[int, int], map_levels: tuple[int, ...] | None = None
) -> np.ndarray:
    """All anchors [K, 4] xyxy float32 for an image of size (height, width).

    Ordered by level, y, x and the cell's anchors (see `AnchorConfig.style`). Not clipped to the
    image. Any image size works. The array is shared and read-only.

    Args:
        config: of the anchors.
        image_size: (height, width).
        map_levels: the level of each map that predicts, where it is not each level once.
    """
    return _anchors(config, (int(image_size[0]), int(image_size[1])), map_levels)


def anchor_levels(
    config: AnchorConfig, image_size: tuple[int, int], map_levels: tuple[int, ...] | None = None
) -> np.ndarray:
    """The level of each row of `anchors`, [K] int32."""
    levels = tuple(range(config.min_level, config.max_level + 1))
    counts = dict(zip(levels, anchor_counts(config, image_size), strict=True))
    map_levels = map_levels or levels
    return np.repeat(np.array(map_levels, np.int32), [counts[level] for level in map_levels])


@functools.lru_cache(maxsize=32)
def _anchors(config, image_size, map_levels) -> np.ndarray:
    levels = range(config.min_level, config.max_level + 1)
    sizes = level_sizes(image_size, config.min_level, config.max_level)
    size_of = dict(zip(levels, sizes, strict=True))
    parts = [
        _level_anchors(config, level, size_of[level], image_size) for level in map_levels or levels
    ]
    boxes = np.concatenate(parts).astype(np.float32)
    boxes.setflags(write=False)
    return boxes


def _level_anchors(config, level, map_size, image_size) -> np.ndarray:
    """Anchors of one level [height * width * A, 4] xyxy, float64."""
    stride_y, stride_x = (side / cells for side, cells in zip(image_size, map_size, strict=True))
    if config.style == "torchvision":
        stride_y, stride_x = stride_y // 1, stride_x // 1
        shapes = _whole_shapes(config, level)  # [A, 2] width, height
    else:
        if config.style != "efficientdet":
            stride_y = stride_x = 2**level
        shapes = _cell_shapes(config, level) * np.array([stride_x, stride_y])
    middle = 0.0 if config.style in ("corner", "torchvision") else 0.5
    y = (np.arange(map_size[0]) + middle) * stride_y
    x = (np.arange(map_size[1]) + middle) * stride_x
    grid_y, grid_x = np.meshgrid(y, x, indexing="ij")
    centers = np.stack([grid_x, grid_y], axis=-1)[:, :, None]  # [H, W, 1, 2]
    boxes = np.concatenate([centers - shapes / 2, centers + shapes / 2], axis=-1)  # [H, W, A, 4]
    return boxes.reshape(-1, 4)


def _cell_shapes(config: AnchorConfig, level: int) -> np.ndarray:
    """(width, height) in strides of one cell's anchors, [A, 2]."""
    if config.style == "detectron":
        return _rounded_shapes(config, level)
    shapes = []
    for octave in range(config.num_scales):
        base = config.level_scale(level) * 2 ** (octave / config.num_scales)
        for ratio in config.aspect_ratios:
            wide, high = ratio if isinstance(ratio, tuple) else (ratio**0.5, ratio**-0.5)
            shapes.append((base * wide, base * high))
    return np.array(shapes)


def _whole_shapes(config: AnchorConfig, level: int) -> np.ndarray:
    """(width, height) in pixels of one cell's anchors in torchvision's style, [A, 2]."""
    octaves = 2.0 ** (np.arange(config.num_scales) / config.num_scales)
    sizes = np.floor(config.level_scale(level) * 2**level * octaves)
    ratios = [r if isinstance(r, tuple) else (r**0.5, r**-0.5) for r in config.aspect_ratios]
    shapes = np.array(ratios)[:, None] * sizes[:, None]  # [ratios, octaves, 2]
    # Half to even: 50.5 is 50, so that the second octave of 64 is 100 wide.
    return 2 * np.round(shapes.reshape(-1, 2) / 2)


def _rounded_shapes(config: AnchorConfig, level: int) -> np.ndarray:
    stride = 2**level
    shapes = []
    for ratio in config.aspect_ratios:
        # Half to even, as NumPy rounds: 5.5 is 6 and 22.5 is 22.
        width = np.round(stride * ratio**0.5)
        height = np.round(width / ratio)
        for octave in range(config.num_scales):
            size = config.level_scale(level) * 2 ** (octave / config.num_scales) / stride
            shapes.append((width * size, height * size))
    return np.array(shapes)
