"""Words in which YOLOv7's tables are written: blocks by their published widths."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from tfdet.layers.batch_norm import Kind
from tfdet.layers.conv_bn import ConvBN
from tfdet.layers.elan import ELAN
from tfdet.layers.max_pool_down import MaxPoolDown
from tfdet.layers.reorg import ReOrg
from tfdet.layers.rep_conv import RepConv
from tfdet.layers.sppcspc import SPPCSPC

_DIVISOR = 8


@dataclasses.dataclass(frozen=True)
class Style:
    """What is the same for all blocks of a network.

    Attributes:
        width: all channels are multiplied by this, and rounded up to a multiple of 8.
        depth: the number of pairs of 3x3 convolutions in an ELAN is multiplied by this.
        batch_norm: kind of batch norm.
        merged: batch norms are merged into the convolutions before them, for inference.
    """

    width: float = 1.0
    depth: float = 1.0
    batch_norm: Kind = "plain"
    merged: bool = False

    def filters(self, published: int) -> int:
        return math.ceil(published * self.width / _DIVISOR) * _DIVISOR

    def convs(self, published: int) -> int:
        return 2 * max(1, round(published / 2 * self.depth))


@dataclasses.dataclass(frozen=True)
class BlockSpec:
    """A block of a table.

    Attributes:
        make: gives its layer in a style, under a name.
        widths: published widths of the maps whose concatenation it returns.
    """

    make: Callable[[Style, str], Any]
    widths: tuple[int, ...]

    def channels(self, style: Style) -> int:
        """Channels of the map that the block returns."""
        return sum(style.filters(width) for width in self.widths)


def conv(filters: int, kernel_size: int = 3, strides: int = 1) -> BlockSpec:
    """Convolution, batch norm, SiLU."""
    return _block(ConvBN, (filters,), (filters,), kernel_size=kernel_size, strides=strides)


def rep_conv(filters: int) -> BlockSpec:
    """A 3x3 and a 1x1 convolution that become one for inference."""
    return _block(RepConv, (filters,), (filters,))


def elan(hidden: int, filters: int, convs: int = 4) -> BlockSpec:
    """The block of backbones, and of YOLOv7-X's neck."""
    return BlockSpec(
        lambda style, name: _layer(
            ELAN, style, name, (hidden, hidden, filters), convs=style.convs(convs)
        ),
        (filters,),
    )


def wide_elan(hidden: int, filters: int) -> BlockSpec:
    """The block of necks: a chain of half the width, of which every map is kept."""
    return BlockSpec(
        lambda style, name: _layer(
            ELAN,
            style,
            name,
            (hidden, hidden // 2, filters),
            convs=style.convs(4),
            keeps_all=True,
        ),
        (filters,),
    )


def down(filters: int) -> BlockSpec:
    """Halves a map by pooling and by a strided convolution, `filters` channels each."""
    return _block(MaxPoolDown, (filters,), (filters, filters))


def sppcspc(filters: int) -> BlockSpec:
    """Spatial pyramid pooling."""
    return _block(SPPCSPC, (filters,), (filters,))


def reorg() -> BlockSpec:
    """Space to depth of the image."""
    return BlockSpec(lambda style, name: ReOrg(name=name), ())


def _block(
    cls: type, filters: tuple[int, ...], widths: tuple[int, ...], **options: Any
) -> BlockSpec:
    return BlockSpec(lambda style, name: _layer(cls, style, name, filters, **options), widths)


def _layer(cls: type, style: Style, name: str, filters: tuple[int, ...], **options: Any) -> Any:
    return cls(
        *(style.filters(width) for width in filters),
        **options,
        batch_norm=style.batch_norm,
        merged=style.merged,
        name=name,
    )
