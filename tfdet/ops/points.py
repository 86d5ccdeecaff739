"""The points of detectors without anchors, and the distances that they predict."""

import functools
from typing import Literal, NamedTuple

import numpy as np
from keras import ops

from tfdet.ops.anchors import level_sizes
from tfdet.ops.boxes import columns

# A point that belongs to no map; no box contains it.
_NOWHERE = (-1.0, -1.0)

# Where points stand, and where distances end.
# "fcos", as published: in the middle of a cell; right and bottom pixels count, that is, the
# last pixel of a box [0, 10) is 9, and distances end there.
# "mmdet": in the middle of a cell; distances end at the box's edges.
# "torchvision": at the upper left corner of a cell, whose sides are the image's divided by the
# map's, rounded down; distances end at the box's edges.
Style = Literal["fcos", "mmdet", "torchvision"]


class Cells(NamedTuple):
    """Where the K predictions of a head stand; NumPy constants.

    Attributes:
        points: [K, 2] float32 (x, y) in pixels; (-1, -1) for gaps between packed maps.
        levels: [K] int32 level of the pyramid; gaps count as the finest.
        strides: [K] float32, 2^level.
        last_pixel: see `encode`.
    """

    points: np.ndarray
    levels: np.ndarray
    strides: np.ndarray
    last_pixel: float = 1.0

    def first(self, count: int) -> "Cells":
        """The first `count` of them."""
        arrays = (x[:count] for x in (self.points, self.levels, self.strides))
        return Cells(*arrays, self.last_pixel)


@functools.lru_cache(maxsize=32)
def cells(
    map_levels: tuple[int, ...],
    image_size: tuple[int, int],
    gaps: int = 0,
    style: Style = "fcos",
) -> Cells:
    """The cells of some maps, row by row, map by map, and then of the gaps between them.

    Args:
        map_levels: the level of each map, for example (3, 4, 5, 6, 7); levels may repeat.
        image_size: (height, width) of the image.
        gaps: cells of a packed map that no map covers.
        style: where points stand, and where distances end, see `Style`.
    """
    sizes = dict(enumerate(level_sizes(image_size, 0, max(map_levels))))
    if style == "torchvision":
        points = [_corners(sizes[level], image_size) for level in map_levels]
    else:
        points = [_middles(sizes[level], 2**level) for level in map_levels]
    levels = [np.full(len(xy), level) for level, xy in zip(map_levels, points, strict=True)]
    points.append(np.tile(_NOWHERE, (gaps, 1)))
    levels.append(np.full(gaps, min(map_levels)))
    level_of = np.concatenate(levels).astype(np.int32)
    strides = (2.0**level_of).astype(np.float32)
    arrays = (np.concatenate(points).astype(np.float32), level_of, strides)
    for array in arrays:
        array.setflags(write=False)
    return Cells(*arrays, 1.0 if style == "fcos" else 0.0)


def _middles(size: tuple[int, int], stride: int) -> np.ndarray:
    return _points(*((np.arange(cells) + 0.5) * stride for cells in size))


def _corners(size: tuple[int, int], image_size: tuple[int, int]) -> np.ndarray:
    sides = zip(size, image_size, strict=True)
    return _points(*(np.arange(cells) * (side // cells) for cells, side in sides))


def _points(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.stack(np.broadcast_arrays(x, y[:, None]), axis=-1).reshape(-1, 2)


def encode(boxes_xyxy, points, last_pixel: float = 1.0):
    """Distances (left, top, right, bottom) in pixels from points [..., 2] to boxes [..., 4].

    All are positive where the point is inside. Right and bottom end `last_pixel` before the box's
    edge: at its last pixel, as published, or with 0 at the edge.
    """
    x, y = points[..., 0], points[..., 1]
    ends = np.array([0.0, 0.0, last_pixel, last_pixel], np.float32)
    left, top, right, bottom = columns(boxes_xyxy - ends)
    return ops.stack([x - left, y - top, right - x, bottom - y], axis=-1)


def decode(distances, points, last_pixel: float = 1.0):
    """Boxes xyxy [..., 4] of distances in pixels; the inverse of `encode`."""
    x, y = points[..., 0], points[..., 1]
    left, top, right, bottom = columns(distances)
    boxes = ops.stack([x - left, y - top, x + right, y + bottom], axis=-1)
    return boxes + np.array([0.0, 0.0, last_pixel, last_pixel], np.float32)
