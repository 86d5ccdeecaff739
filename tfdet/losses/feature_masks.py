"""Where on its feature maps a student imitates its teacher: baselines of Joint-DetNAS's Table 4.

A mask has a weight for each cell of the maps; the loss is the weighted mean of what the cells'
features differ by. All cells of all maps stand in one row, the finest map first.

- "whole" is the hint of FitNets (https://arxiv.org/abs/1412.6550): every cell counts.
- "anchors" is fine-grained feature imitation, FGFI (https://arxiv.org/abs/1906.03609): cells whose
  anchors are near an object.
- "gaussian" is the mask of task adaptive regularization (https://arxiv.org/abs/2006.13108): the
  middle of an object counts most.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops

from tfdet.losses import replicas
from tfdet.losses.assignment import is_learnable
from tfdet.ops import boxes as box_ops
from tfdet.tensors import Tensor

# FGFI: a cell counts from this share of the best IoU that any anchor has with the object.
_ANCHOR_SHARE = 0.5
# The standard deviation in half sides of the box: exp(-1/2) is left at the middle of a side.
_GAUSSIAN_SIGMA = 1.0
_TINY = 1e-8


def whole_mask(batch: Any, cells: int) -> Any:
    """1 everywhere: [B, cells]."""
    return ops.ones((batch, cells), "float32")


def anchor_mask(targets: Mapping[str, Tensor], anchors: np.ndarray, per_cell: int) -> Any:
    """1 in the cells with an anchor near an object, else 0: [B, cells].

    Near is an IoU above half of the best one that this object has with any anchor, on whichever
    level: a small object chooses cells of the finest map only. An object that touches no anchor
    chooses none.

    Args:
        targets: "boxes" [B, M, 4] xyxy pixels, "labels" [B, M] (-1 = padding) and, where there is
            one, "is_crowd" [B, M]; crowds are no objects here.
        anchors: [cells * per_cell, 4] xyxy.
        per_cell: anchors of a cell.
    """
    anchor_sides = box_ops.sides(ops.convert_to_tensor(anchors, "float32"))

    def near(boxes: Any) -> Any:
        iou = box_ops.overlap(anchor_sides, box_ops.sides(boxes))  # [B, cells * per_cell]
        best = ops.max(iou, axis=-1, keepdims=True)
        chosen = ops.cast(iou > _ANCHOR_SHARE * best, "float32")
        return ops.max(ops.reshape(chosen, (-1, len(anchors) // per_cell, per_cell)), axis=-1)

    return _largest_over_objects(targets, near, len(anchors) // per_cell)


def gaussian_mask(targets: Mapping[str, Tensor], centers: np.ndarray) -> Any:
    """exp(-(dx² + dy²) / 2) within the boxes of objects, else 0: [B, cells].

    dx and dy are distances from the middle of the box, in halves of its sides. Where boxes overlap
    the larger weight counts.

    Args:
        targets: as of `anchor_mask`.
        centers: [cells, 2] middles of the cells, (x, y) pixels.
    """
    x, y = (ops.convert_to_tensor(part, "float32") for part in np.float32(centers).T)

    def bell(boxes: Any) -> Any:
        left, top, right, bottom = box_ops.columns(boxes)  # [B, 1] each
        across = (x - (left + right) / 2) / ops.maximum((right - left) / 2, _TINY)
        down = (y - (top + bottom) / 2) / ops.maximum((bottom - top) / 2, _TINY)
        weight = ops.exp(-(ops.square(across) + ops.square(down)) / (2 * _GAUSSIAN_SIGMA**2))
        is_within = ops.maximum(ops.abs(across), ops.abs(down)) <= 1
        return ops.where(is_within, weight, 0.0)

    return _largest_over_objects(targets, bell, len(centers))


def masked_feature_loss(student: list[Tensor], teacher: list[Tensor], mask: Any) -> Any:
    """Weighted mean over all cells of the mean squared difference of their features, a scalar.

    0 where no cell has a weight. Weights are summed over all replicas.

    Args:
        student, teacher: a map [B, h, w, C] of each level, the finest first.
        mask: [B, cells].
    """
    errors = [
        ops.mean(ops.square(ops.cast(ours, "float32") - ops.cast(theirs, "float32")), axis=-1)
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    rows = [ops.reshape(one, (-1, one.shape[1] * one.shape[2])) for one in errors]
    total = replicas.sum_over_replicas(ops.sum(mask))
    return ops.sum(ops.concatenate(rows, axis=1) * mask) / ops.maximum(total, _TINY)


def cell_centers(sizes: Mapping[int, tuple[int, int]]) -> np.ndarray:
    """Middles of all cells, [cells, 2] (x, y) pixels.

    Args:
        sizes: level -> (height, width) of its map, the finest first; level l has stride 2^l.
    """
    rows = []
    for level, (height, width) in sizes.items():
        grid = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        rows.append(2**level * np.stack(grid, axis=-1).reshape(-1, 2))
    return np.concatenate(rows).astype(np.float32)


def _largest_over_objects(
    targets: Mapping[str, Tensor], weigh: Callable[[Any], Any], cells: int
) -> Any:
    """The largest of the objects' weights of each cell, [B, cells]; 0 without objects.

    One object of each image at a time, up to the last one of the batch: padding costs nothing, and
    there is no matrix of all objects and cells.

    Args:
        targets: as of `anchor_mask`.
        weigh: [B, 1, 4] boxes -> [B, cells] weights.
        cells: of all maps.
    """
    boxes = ops.convert_to_tensor(targets["boxes"], "float32")
    is_object = is_learnable(boxes, targets["labels"], targets.get("is_crowd"))
    boxes = ops.where(is_object[..., None], boxes, 0.0)
    slots = ops.arange(boxes.shape[1], dtype="int32")
    count = ops.max(ops.where(is_object, slots + 1, 0), initial=0)

    def step(slot: Any, mask: Any) -> tuple[Any, Any]:
        is_there = ops.take(is_object, slot, axis=1)[:, None]
        weights = ops.where(is_there, weigh(ops.take(boxes, slot, axis=1)[:, None]), 0.0)
        return slot + 1, ops.maximum(mask, weights)

    start = ops.zeros((), "int32"), ops.zeros((ops.shape(boxes)[0], cells), "float32")
    return ops.while_loop(lambda slot, _: slot < count, step, start)[1]
