"""The points of detectors without anchors, and the distances that they predict."""

import functools
from typing import NamedTuple

import numpy as np
from keras import ops

from tfdet.ops.anchors import level_sizes

# A point that belongs to no map; no box contains it.
_NOWHERE = (-1.0, -1.0)

# FCOS and its descendants count the right and bottom pixels in: the last pixel of a box [0, 10) is
# 9, and distances end there.
_LAST_PIXEL = np.array([0.0, 0.0, 1.0, 1.0], np.float32)


class Cells(NamedTuple):
    """Where the K predictions of a head stand; NumPy constants.

    Attributes:
        points: [K, 2] float32 (x, y) in pixels; (-1, -1) for gaps between packed maps.
        levels: [K] int32 level of the pyramid; gaps count as the finest.
        strides: [K] float32, 2^level.
    """

    points: np.ndarray
    levels: np.ndarray
    strides: np.ndarray


@functools.lru_cache(maxsize=32)
def cells(map_levels: tuple[int, ...], image_size: tuple[int, int], gaps: int = 0) -> Cells:
    """The cells of some maps, row by row, map by map, and then of the gaps between them.

    Args:
        map_levels: the level of each map, for example (3, 4, 5, 6, 7); levels may repeat.
        image_size: (height, width) of the image.
        gaps: cells of a packed map that no map covers.
    """
    sizes = dict(enumerate(level_sizes(image_size, 0, max(map_levels))))
    points = [_map_points(sizes[level], 2**level) for level in map_levels]
    levels = [np.full(len(xy), level) for level, xy in zip(map_levels, points, strict=True)]
    points.append(np.tile(_NOWHERE, (gaps, 1)))
    levels.append(np.full(gaps, min(map_levels)))
    level_of = np.concatenate(levels).astype(np.int32)
    strides = (2.0**level_of).astype(np.float32)
    arrays = (np.concatenate(points).astype(np.float32), level_of, strides)
    for array in arrays:
        array.setflags(write=False)
    return Cells(*arrays)


def _map_points(size: tuple[int, int], stride: int) -> np.ndarray:
    y, x = ((np.arange(cells) + 0.5) * stride for cells in size)
    return np.stack(np.broadcast_arrays(x, y[:, None]), axis=-1).reshape(-1, 2)


def encode(boxes_xyxy, points):
    """Distances (left, top, right, bottom) in pixels from points [..., 2] to boxes [..., 4].

    All are positive where the point is inside. Right and bottom end at the box's last pixel, one
    pixel before its edge.
    """
    x, y = points[..., 0], points[..., 1]
    left, top, right, bottom = (boxes_xyxy[..., i] - _LAST_PIXEL[i] for i in range(4))
    return ops.stack([x - left, y - top, right - x, bottom - y], axis=-1)


def decode(distances, points):
    """Boxes xyxy [..., 4] of distances in pixels; the inverse of `encode`."""
    x, y = points[..., 0], points[..., 1]
    left, top, right, bottom = (distances[..., i] for i in range(4))
    return ops.stack([x - left, y - top, x + right, y + bottom], axis=-1) + _LAST_PIXEL
