"""The cells and anchors of YOLO's heads, and the boxes that they predict."""

import dataclasses
import functools
import math
from typing import NamedTuple

import numpy as np
from keras import ops

from tfdet.errors import UserError


@dataclasses.dataclass(frozen=True)
class AnchorGrid:
    """Strides of the maps that predict, and the anchors of their cells.

    Attributes:
        strides: pixels per cell of each level, finest first.
        anchors: for each level the (width, height) of its anchors in pixels.
    """

    strides: tuple[int, ...]
    anchors: tuple[tuple[tuple[float, float], ...], ...]

    def __post_init__(self):
        # Lists (from YAML or JSON) become tuples, so that equal grids are equal and hashable.
        anchors = tuple(tuple((w, h) for w, h in level) for level in self.anchors)
        object.__setattr__(self, "strides", tuple(self.strides))
        object.__setattr__(self, "anchors", anchors)
        if len({len(level) for level in anchors}) != 1 or len(anchors) != len(self.strides):
            raise UserError(
                f"expected the same number of anchors for each of {len(self.strides)} strides, "
                f"got {[len(level) for level in anchors]} anchors"
            )
        sides = [*self.strides, *(side for level in anchors for shape in level for side in shape)]
        if not sides or not all(0 < side < math.inf for side in sides):
            raise UserError(
                "expected strides and anchors above 0, got "
                f"strides={self.strides}, anchors={anchors}"
            )

    @property
    def num_levels(self) -> int:
        return len(self.strides)

    @property
    def anchors_per_cell(self) -> int:
        return len(self.anchors[0])


YOLOV7 = AnchorGrid(
    strides=(8, 16, 32),
    anchors=(
        ((12, 16), (19, 36), (40, 28)),
        ((36, 75), (76, 55), (72, 146)),
        ((142, 110), (192, 243), (459, 401)),
    ),
)
YOLOV7_W6 = AnchorGrid(
    strides=(8, 16, 32, 64),
    anchors=(
        ((19, 27), (44, 40), (38, 94)),
        ((96, 68), (86, 152), (180, 137)),
        ((140, 301), (303, 264), (238, 542)),
        ((436, 615), (739, 380), (925, 792)),
    ),
)


class Rows(NamedTuple):
    """The K predictions of a grid; NumPy constants, [K] each.

    Ordered by level (finest first), anchor, y and x.

    Attributes:
        cell_x, cell_y: float32 column and row of the cell in its map.
        stride: float32 pixels per cell.
        anchor_width, anchor_height: float32 pixels.
        level: int32, 0 = finest.
    """

    cell_x: np.ndarray
    cell_y: np.ndarray
    stride: np.ndarray
    anchor_width: np.ndarray
    anchor_height: np.ndarray
    level: np.ndarray


def map_sizes(grid: AnchorGrid, image_size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """(height, width) in cells of each level's map."""
    height, width = (int(side) for side in image_size)
    coarsest = max(grid.strides)
    if height % coarsest or width % coarsest or min(height, width) < 1:
        raise UserError(
            f"expected an image size in multiples of {coarsest}, got {height} x {width}"
        )
    return tuple((height // stride, width // stride) for stride in grid.strides)


def row_counts(grid: AnchorGrid, image_size: tuple[int, int]) -> tuple[int, ...]:
    """How many rows each level has."""
    sizes = map_sizes(grid, image_size)
    return tuple(height * width * grid.anchors_per_cell for height, width in sizes)


def rows(grid: AnchorGrid, image_size: tuple[int, int]) -> Rows:
    """Cells and anchors of all predictions for images of size (height, width).

    The arrays are shared and read-only.
    """
    return _rows(grid, (int(image_size[0]), int(image_size[1])))


@functools.lru_cache(maxsize=32)
def _rows(grid: AnchorGrid, image_size: tuple[int, int]) -> Rows:
    levels = []
    for level, size in enumerate(map_sizes(grid, image_size)):
        shape = (grid.anchors_per_cell, *size)
        _, y, x = np.indices(shape)
        width, height = np.array(grid.anchors[level], np.float32).T[..., None, None]
        columns = (x, y, grid.strides[level], width, height, level)
        levels.append([np.broadcast_to(column, shape).ravel() for column in columns])
    types = (*[np.float32] * 5, np.int32)
    columns = zip(zip(*levels, strict=True), types, strict=True)
    result = Rows(*(np.concatenate(parts).astype(dtype) for parts, dtype in columns))
    for array in result:
        array.setflags(write=False)
    return result


def decode(box_codes, grid: AnchorGrid, image_size: tuple[int, int]):
    """Boxes [B, K, 4] float32 xyxy pixels of raw codes t (x, y, w, h) [B, K, 4], any float dtype.

    With s = sigmoid(t): centre = (2 s - 0.5 + cell) * stride, size = (2 s)^2 * anchor. A centre is
    at most half a cell outside of its cell, a side at most four times the anchor's.
    """
    constants = rows(grid, image_size)
    x, y, width, height = decode_cells(
        box_codes,
        constants.cell_x,
        constants.cell_y,
        constants.anchor_width / constants.stride,
        constants.anchor_height / constants.stride,
    )
    left, top = (x - width * 0.5) * constants.stride, (y - height * 0.5) * constants.stride
    right, bottom = (x + width * 0.5) * constants.stride, (y + height * 0.5) * constants.stride
    return ops.stack([left, top, right, bottom], axis=-1)


def decode_cells(box_codes, cell_x, cell_y, anchor_width, anchor_height):
    """Centre x, centre y, width and height [...] in cells of codes [..., 4]; anchors in cells."""
    doubled = 2.0 * ops.sigmoid(ops.cast(box_codes, "float32"))
    x, y, width, height = ops.unstack(doubled, 4, axis=-1)
    return (
        x - 0.5 + cell_x,
        y - 0.5 + cell_y,
        ops.square(width) * anchor_width,
        ops.square(height) * anchor_height,
    )
