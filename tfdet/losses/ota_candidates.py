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
        anchor_width, anchor_height: [N] float32 in cells, NumPy.
        stride: [N] float32 pixels, NumPy.
        owner: [N] int32, the object that the candidate was made for, NumPy.
    """

    is_valid: Any
    row: Any
    cell_x: Any
    cell_y: Any
    anchor_width: np.ndarray
    anchor_height: np.ndarray
    stride: np.ndarray
    owner: np.ndarray


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
    counts = anchor_grid.row_counts(grid, image_size)
    starts = np.cumsum((0, *counts))[:-1]
    sizes = anchor_grid.map_sizes(grid, image_size)
    parts = [
        _level(boxes, is_known, grid, level, sizes[level], starts[level], anchor_threshold, reach)
        for level in range(grid.num_levels)
    ]
    tensors = (ops.concatenate(columns, axis=1) for columns in zip(*parts, strict=True))
    return Candidates(*tensors, *_constants(grid, boxes.shape[1]))


def _level(boxes, is_known, grid, level, size, start, anchor_threshold, reach):
    """is_valid, row, cell_x and cell_y of one level's candidates, [B, 5 * A * M] each."""
    left, top, right, bottom = (boxes[..., i] / grid.strides[level] for i in range(4))
    x, y = (left + right) * 0.5, (top + bottom) * 0.5  # [B, M], in cells
    height, width = size
    spaces = (x, y, width - x, height - y)
    near = [is_known, *((s % 1.0 < reach) & (s > 1.0) & is_known for s in spaces)]
    fits = _fits(right - left, bottom - top, grid, level, anchor_threshold)  # [B, A, M]
    is_valid = ops.stack(near, axis=1)[:, :, None] & fits[:, None]  # [B, 5, A, M]

    step_x, step_y = reach * _STEPS.T[..., None]  # [5, 1]
    cell_x = _cell(x[:, None] - step_x, width)  # [B, 5, M]
    cell_y = _cell(y[:, None] - step_y, height)
    anchor = np.arange(grid.anchors_per_cell, dtype=np.int32)[:, None]
    first = start.astype(np.int32) + anchor * height * width  # [A, 1]
    row = first + (cell_y * width + cell_x)[:, :, None]  # [B, 5, A, M]
    repeat = ops.zeros_like(anchor)
    columns = (
        is_valid,
        row,
        ops.cast(cell_x[:, :, None] + repeat, "float32"),
        ops.cast(cell_y[:, :, None] + repeat, "float32"),
    )
    length = CELLS_PER_OBJECT * grid.anchors_per_cell * boxes.shape[1]
    return tuple(ops.reshape(column, (-1, length)) for column in columns)


def _fits(width, height, grid: AnchorGrid, level: int, threshold: float):
    """[B, A, M] bool: the anchor's sides are near enough to the object's ([B, M] cells)."""
    anchors = np.array(grid.anchors[level], np.float32) / np.float32(grid.strides[level])
    ratio = ops.stack([width, height], axis=-1)[:, None] / anchors[:, None]  # [B, A, M, 2]
    return ops.all(ops.maximum(ratio, 1.0 / ratio) < threshold, axis=-1)


def _cell(position, count: int):
    return ops.clip(ops.cast(position, "int32"), 0, count - 1)


def _constants(grid: AnchorGrid, objects: int) -> tuple[np.ndarray, ...]:
    """anchor_width, anchor_height, stride and owner of all candidates, [N] each."""
    strides = np.array(grid.strides, np.float32)[:, None]
    anchors = np.array(grid.anchors, np.float32) / strides[..., None]  # [L, A, 2]
    shape = (grid.num_levels, CELLS_PER_OBJECT, grid.anchors_per_cell, objects)
    columns = (
        anchors[:, None, :, None, 0],
        anchors[:, None, :, None, 1],
        strides[..., None, None],
        np.arange(objects, dtype=np.int32),
    )
    return tuple(np.broadcast_to(column, shape).ravel() for column in columns)
