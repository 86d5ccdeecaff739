"""Which cells and anchors of YOLO's heads may learn an object."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfdet.ops import anchor_grid
from tfdet.ops.anchor_grid import AnchorGrid

# The cell that an object's centre lies in, and its left, upper, right and lower neighbour: what is
# subtracted from the centre, in units of the reach.
_STEPS = np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
CELLS_PER_OBJECT = len(_STEPS)


class Candidates(NamedTuple):
    """Pairs of an object and a prediction near it, N = levels * 5 cells * anchors * M per image.

    Ordered by level, cell, anchor and object (fastest), as published; the order decides which of
    several objects writes the target of a prediction that occurs more than once.

    Attributes:
        is_valid: [B, N] bool; the others are placeholders.
        row: [B, N] int32, the prediction.
        cell_x, cell_y: [B, N] float32 of that prediction.
        anchor_width, anchor_height: [N] float32 in cells.
        stride: [N] float32 pixels.
        owner: [N] int32, the object that the candidate was made for.
    """

    is_valid: Any
    row: Any
    cell_x: Any
    cell_y: Any
    anchor_width: Any
    anchor_height: Any
    stride: Any
    owner: Any


def find_candidates(
    boxes,
    is_known,
    grid: AnchorGrid,
    image_size: tuple[int, int],
    anchor_threshold: float = 4.0,
    reach: float = 0.5,
) -> Candidates:
    """The candidates of a batch.

    An anchor qualifies for an object when neither side is `anchor_threshold` times larger or
    smaller than the object's. Its cells are the one with the object's centre and each neighbour
    whose border is nearer than `reach` cells to the centre; a centre right on a border counts its
    cell twice. The cells beyond the image are replaced by the outermost ones.

    Args:
        boxes: [B, M, 4] float32 xyxy pixels, finite.
        is_known: [B, M] bool; other boxes have no candidates.
        grid: cells and anchors.
        image_size: (height, width).
        anchor_threshold: see above.
        reach: 0.5 gives one or two neighbours, 1 (auxiliary heads) all four.
    """
    strides = np.array(grid.strides, np.float32)[:, None]  # [L, 1]
    sizes = np.array(anchor_grid.map_sizes(grid, image_size), np.int32)
    height, width = (sizes[:, i, None] for i in range(2))
    # In cells, [B, L, M] each.
    left, top, right, bottom = ops.unstack(boxes[:, None] / strides[..., None], 4, axis=-1)
    x, y = (left + right) * 0.5, (top + bottom) * 0.5
    fits = _fits(right - left, bottom - top, grid, anchor_threshold)  # [B, L, A, M]
    # The first stands for the own cell, which is always near.
    spaces = ops.stack([ops.full_like(x, 2.0), x, y, width - x, height - y], axis=2)
    near = (spaces % 1.0 < reach) & (spaces > 1.0)  # [B, L, 5, M]
    is_valid = near[:, :, :, None] & fits[:, :, None] & is_known[:, None, None, None]

    step_x, step_y = reach * _STEPS.T[..., None]  # [5, 1]
    cell_x = _cell(x[:, :, None] - step_x, width[:, None])  # [B, L, 5, M]
    cell_y = _cell(y[:, :, None] - step_y, height[:, None])
    row = _first_rows(grid, image_size) + (cell_y * width[:, None] + cell_x)[:, :, :, None]
    repeat = np.zeros((grid.anchors_per_cell, 1), np.int32)

    def flat(column):
        return ops.reshape(column, (ops.shape(boxes)[0], -1))

    return Candidates(
        flat(is_valid),
        flat(row),
        *(flat(ops.cast(c[:, :, :, None] + repeat, "float32")) for c in (cell_x, cell_y)),
        *_constants(grid, ops.shape(boxes)[1]),
    )


def _first_rows(grid: AnchorGrid, image_size: tuple[int, int]) -> np.ndarray:
    """The row of each anchor's first cell, [L, 1, A, 1] int32."""
    counts = np.array(anchor_grid.row_counts(grid, image_size), np.int32)
    cells = counts // grid.anchors_per_cell
    anchors = np.arange(grid.anchors_per_cell, dtype=np.int32)
    first = (np.cumsum(counts) - counts)[:, None] + anchors * cells[:, None]
    return first[:, None, :, None].astype(np.int32)


def _fits(width, height, grid: AnchorGrid, threshold: float):
    """[B, L, A, M] bool: the anchor's sides are near enough to the object's ([B, L, M] cells)."""
    strides = np.array(grid.strides, np.float32)[:, None, None]
    anchors = np.array(grid.anchors, np.float32) / strides  # [L, A, 2]
    sides = ops.stack([width, height], axis=-1)[:, :, None]  # [B, L, 1, M, 2]
    ratio = sides / anchors[:, :, None]
    return ops.all(ops.maximum(ratio, 1.0 / ratio) < threshold, axis=-1)


def _cell(position, count: np.ndarray):
    return ops.clip(ops.cast(position, "int32"), 0, count - 1)


def _constants(grid: AnchorGrid, objects: Any) -> tuple[Any, ...]:
    """anchor_width, anchor_height, stride and owner of all candidates, [N] each."""
    strides = np.array(grid.strides, np.float32)[:, None]
    anchors = np.array(grid.anchors, np.float32) / strides[..., None]  # [L, A, 2]
    shape = (grid.num_levels, CELLS_PER_OBJECT, grid.anchors_per_cell, objects)
    columns = (
        anchors[:, None, :, None, 0],
        anchors[:, None, :, None, 1],
        strides[..., None, None],
        ops.arange(objects, dtype="int32"),
    )
    return tuple(ops.reshape(ops.broadcast_to(column, shape), (-1,)) for column in columns)
