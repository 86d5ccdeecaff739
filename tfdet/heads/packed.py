"""The packed head's shared part (PackDet, ECCV 2020): all levels in one map, one long stack."""

import dataclasses
import functools
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from tfdet import records
from tfdet.errors import UserError
from tfdet.layers.composite import Composite
from tfdet.layers.conv_block import ConvBlock
from tfdet.ops import pack as pack_ops
from tfdet.ops.anchors import level_sizes
from tfdet.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class PackingConfig:
    """A packed head; the defaults are PackDet's "fe-128-12-2, m4".

    Attributes:
        pattern: 1 to 5, how maps lie in the packed map, see `ops.pack_layout`.
        filters: width of the stack and the towers.
        blocks: convolutions of the stack.
        tower_repeats: convolutions of each tower.
        groups: of the group norms.
        in_training, in_inference: pack there; otherwise the same weights run map by map.
        unpacked_norm: the group norms without packing: "separate" sees each map alone; "joint" all
            maps together, as packing does.
    """

    pattern: int = 4
    filters: int = 128
    blocks: int = 12
    tower_repeats: int = 2
    groups: int = 32
    in_training: bool = True
    in_inference: bool = True
    unpacked_norm: Literal["separate", "joint"] = "separate"

    def __post_init__(self) -> None:
        if self.pattern not in pack_ops.PATTERNS:
            raise UserError(f"packed head: pattern must be 1 to 5, got {self.pattern}")
        if self.groups < 1 or self.filters % self.groups:
            raise UserError(
                f"packed head: filters={self.filters} cannot be split into groups={self.groups}"
            )

    def check(
        self, image_size: tuple[int, int], min_level: int, max_level: int, fpn_width: int
    ) -> None:
        """Raises `UserError` where the pyramid of an image cannot be packed."""
        try:
            sizes = level_sizes(image_size, min_level, max_level)
            layout = pack_ops.layout(sizes, self.pattern)
        except ValueError as error:
            height, width = image_size
            raise UserError(
                f"a packed head cannot take image_size {height}x{width}: {error}"
            ) from None
        if len(layout.boxes) > len(sizes) and fpn_width % self.groups:
            raise UserError(
                f"packed head: fpn_width={fpn_width} cannot be split into groups={self.groups}, "
                "which the norms of extra maps need; set packed.groups"
            )


@keras.saving.register_keras_serializable(package="tfdet")
class PackedStack(Composite):
    """Maps {"P3": ..., "P7": ...} to one packed map in a list, or to a list of maps.

    The pattern lists some levels several times: each further map of a level is made from the
    level's own by a convolution block. All maps go into one, then through a 1x1 convolution and a
    stack of 3x3 convolutions, after each of which the output of the 1x1 is added. Nothing masks the
    gaps between the maps: after the first norm they are not zero, and neighbours see each other, as
    published.

    Args:
        config: of the head.
    """

    def __init__(self, config: PackingConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config
        self.supports_jit = not pack_ops.native_is_available()  # XLA does not know the native op
        self.reduction = ConvBlock(config.filters, 1, config.groups, name="reduction")
        self.blocks = [
            ConvBlock(config.filters, 3, config.groups, name=f"block_{i}")
            for i in range(config.blocks)
        ]

    def build(self, input_shape: dict[str, tuple[int | None, ...]]) -> None:
        names, shapes = list(input_shape), list(input_shape.values())
        levels = pack_ops.map_levels(self.config.pattern, len(names))
        # The first map of a level is the level's own.
        self.sources = [(names[level], i != levels.index(level)) for i, level in enumerate(levels)]
        self.extras = {
            str(i): ConvBlock(
                shapes[0][-1], 3, self.config.groups, name=f"extra_{i}_{name.lower()}"
            )
            for i, (name, is_extra) in enumerate(self.sources)
            if is_extra
        }
        super().build(input_shape)

    def is_packed(self, training: bool | None) -> bool:
        return self.config.in_training if training else self.config.in_inference

    def is_joint(self, training: bool | None) -> bool:
        """Group norms must see several maps together."""
        return not self.is_packed(training) and self.config.unpacked_norm == "joint"

    def call(self, features: dict[str, Tensor], training: bool | None = None) -> list[Tensor]:
        maps = [
            self.extras[str(i)]([features[name]])[0] if is_extra else features[name]
            for i, (name, is_extra) in enumerate(self.sources)
        ]
        if self.is_packed(training):
            maps = [pack_ops.pack(maps, self.config.pattern)]
        joint = self.is_joint(training)
        start = x = self.reduction(maps, joint=joint)
        for block in self.blocks:
            x = [y + first for y, first in zip(block(x, joint=joint), start, strict=True)]
        return x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": records.to_dict(self.config)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PackedStack":
        return cls(**{**config, "config": records.from_dict(PackingConfig, config["config"])})


@functools.lru_cache(maxsize=32)
def cell_order(pattern: int, sizes: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, int]:
    """Where the cells of a packed map are, and how many belong to no map.

    Returns:
        [height * width] int32, positions in the packed map, row by row: first the cells of the maps
        in their order, then those of the gaps. And the number of gap cells.
    """
    layout = pack_ops.layout(sizes, pattern)
    index = np.arange(layout.height * layout.width, dtype=np.int32)
    plane = index.reshape(layout.height, layout.width)
    maps = np.concatenate(
        [plane[top:bottom, left:right].ravel() for left, top, right, bottom in layout.boxes]
    )
    gaps = np.setdiff1d(index, maps)
    return np.concatenate([maps, gaps]), len(gaps)


def gap_count(pattern: int, image_size: tuple[int, int], min_level: int, max_level: int) -> int:
    """Cells of the packed map of an image that belong to no map."""
    return cell_order(pattern, level_sizes(image_size, min_level, max_level))[1]


def packed_rows(
    packed: Tensor, pattern: int, sizes: tuple[tuple[int, int], ...], gaps: bool
) -> Any:
    """A packed map [B, H, W, C] as rows [B, K, C] in the order of `cell_order`.

    With `gaps=False` the rows of the gaps are left out, which unpacks the maps.
    """
    order, count = cell_order(pattern, sizes)
    rows = ops.reshape(packed, (-1, len(order), packed.shape[-1]))
    return ops.take(rows, order if gaps else order[: len(order) - count], axis=1)
