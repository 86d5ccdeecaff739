"""PackOp: all maps of a pyramid in one map, so that one long head runs once.

`pack` and `unpack` have two implementations that are equal bit for bit. The portable one in
keras.ops defines the meaning and runs on every backend; the native one (`pack_native.py`) is taken
where TensorFlow can load it.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from tfdet.ops.pack_layout import (
    PATTERNS,
    Box,
    Layout,
    layout,
    layout_of_maps,
    map_levels,
    pattern_number,
)
from tfdet.tensors import Tensor

__all__ = [
    "PATTERNS",
    "Layout",
    "layout",
    "layout_of_maps",
    "map_levels",
    "native_is_available",
    "only_portable",
    "pack",
    "pack_portable",
    "pattern_number",
    "unpack",
    "unpack_portable",
]


def pack(maps: Sequence[Tensor], pattern: int | str | Layout) -> Tensor:
    """Copies maps side by side into one map; cells that no map covers are zero.

    Args:
        maps: float [B, h, w, C] each, in the order of `map_levels(pattern)` (extra maps behind or
            between the levels). Heights and widths are static; B and C may be unknown until run
            time, B may be 0.
        pattern: 1 to 5, "m4", or a `Layout`.

    Returns:
        [B, H, W, C] in the maps' dtype.
    """
    found = _layout_for(maps, pattern)
    if _takes_native(maps[0]):
        from tfdet.ops import pack_native

        return pack_native.pack(maps, found)
    return pack_portable(maps, found)


def unpack(packed: Tensor, layout: Layout) -> list[Tensor]:
    """The maps that lie in a packed map [B, H, W, C]: one [B, h, w, C] per box of the layout."""
    if tuple(packed.shape[1:3]) != (layout.height, layout.width):
        raise ValueError(
            f"the layout is {layout.height}x{layout.width} cells, "
            f"got a packed map of shape {tuple(packed.shape)}"
        )
    if _takes_native(packed):
        from tfdet.ops import pack_native

        return pack_native.unpack(packed, layout)
    return unpack_portable(packed, layout)


def native_is_available() -> bool:
    """True where `pack` runs the native op. A layer that packs cannot be compiled by XLA then."""
    if keras.backend.backend() != "tensorflow":
        return False
    from tfdet.ops import pack_native

    return pack_native.is_available()


@contextlib.contextmanager
def only_portable() -> Iterator[None]:
    """Inside the block `pack` and `unpack` are portable: for graphs that any TensorFlow can run."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    from tfdet.ops import pack_native

    with pack_native.allowed(False):
        yield


def _takes_native(x: Tensor) -> bool:
    if keras.utils.is_keras_tensor(x) or not native_is_available():
        return False
    from tfdet.ops import pack_native

    return keras.backend.standardize_dtype(x.dtype) in pack_native.DTYPES


def _layout_for(maps: Sequence[Tensor], pattern: int | str | Layout) -> Layout:
    """The layout, after a check that these maps fit it."""
    sizes = []
    for index, x in enumerate(maps):
        if len(x.shape) != 4 or None in tuple(x.shape[1:3]):
            raise ValueError(
                f"map {index} must be [batch, height, width, channels] with static height and "
                f"width, got {tuple(x.shape)}"
            )
        if x.dtype != maps[0].dtype:
            raise ValueError(f"map {index} is {x.dtype}, but map 0 is {maps[0].dtype}")
        sizes.append(tuple(x.shape[1:3]))
    if not isinstance(pattern, Layout):
        return layout_of_maps(sizes, pattern)
    if tuple(sizes) != pattern.sizes:
        raise ValueError(f"the layout holds maps of sizes {pattern.sizes}, got {tuple(sizes)}")
    return pattern


def pack_portable(maps: Sequence[Tensor], layout: Layout) -> Tensor:
    """`pack` in keras.ops.

    The canvas is cut in two where no map is crossed, again and again, and put together by
    concatenation: nothing is sliced and little is copied twice, unlike scattering, gathering or
    adding padded maps.
    """
    pieces = list(zip(layout.boxes, maps, strict=True))
    return _assemble((0, 0, layout.width, layout.height), pieces, maps[0])


def unpack_portable(packed: Tensor, layout: Layout) -> list[Tensor]:
    """`unpack` in keras.ops."""
    return [packed[:, y0:y1, x0:x1, :] for x0, y0, x1, y1 in layout.boxes]


def _assemble(region: Box, pieces: list[tuple[Box, Any]], like: Any) -> Tensor:
    """The part of the packed map inside `region`, from the pieces that lie in it."""
    if not pieces:
        x0, y0, x1, y1 = region
        batch, _, _, channels = ops.shape(like)
        return ops.zeros((batch, y1 - y0, x1 - x0, channels), dtype=like.dtype)
    if pieces[0][0] == region:
        return pieces[0][1]
    axis, at = _best_cut(region, [box for box, _ in pieces])
    halves = []
    for low, high in ((region[axis], at), (at, region[axis + 2])):
        inside = [_clip(box, x, axis, low, high) for box, x in pieces]
        half = [*region]
        half[axis], half[axis + 2] = low, high
        halves.append(_assemble(tuple(half), [piece for piece in inside if piece], like))
    return ops.concatenate(halves, axis=2 if axis == 0 else 1)


def _best_cut(region: Box, boxes: Sequence[Box]) -> tuple[int, int]:
    """(axis, position) of the line along a box's edge that crosses the fewest boxes.

    Axis 0 is x, 1 is y; y comes first, since whole rows are the longest runs of memory.
    """
    candidates = [
        (sum(box[axis] < at < box[axis + 2] for box in boxes), -axis, at)
        for axis in (1, 0)
        for at in sorted({edge for box in boxes for edge in (box[axis], box[axis + 2])})
        if region[axis] < at < region[axis + 2]
    ]
    _, axis, at = min(candidates)
    return -axis, at


def _clip(box: Box, x: Tensor, axis: int, low: int, high: int) -> tuple[Box, Any] | None:
    """The part of a piece between two lines; None where it lies outside."""
    start, stop = max(box[axis], low), min(box[axis + 2], high)
    if start >= stop:
        return None
    if (start, stop) == (box[axis], box[axis + 2]):
        return box, x
    inside = slice(start - box[axis], stop - box[axis])
    part = x[:, :, inside] if axis == 0 else x[:, inside]
    clipped = [*box]
    clipped[axis], clipped[axis + 2] = start, stop
    return tuple(clipped), part
