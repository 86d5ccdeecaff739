"""Which predictions of a detector learn which objects."""

from typing import Any, NamedTuple

import numpy as np

from tfdet.losses.assignment import assign
from tfdet.ops import boxes as box_ops
from tfdet.tensors import Tensor


class Positives(NamedTuple):
    """What the predictions of a batch of images learn.

    Attributes:
        levels: [K] int, the level of each prediction.
        objects: [B, K] int, the position of its object in the targets; -1 for none.
        best_iou: [B, M] float, that of each object with its best anchor; None without anchors.
    """

    levels: np.ndarray
    objects: np.ndarray
    best_iou: np.ndarray | None = None


def of_anchors(
    anchors: np.ndarray, levels: np.ndarray, boxes: Tensor, labels: Tensor, **rules: Any
) -> Positives:
    """Positives of anchors [K, 4] xyxy on `levels` [K]; `rules` as `losses.assignment.assign`'s."""
    anchors = np.asarray(anchors, np.float32)
    assigned = assign(anchors, boxes, labels, **rules)
    best = [np.asarray(box_ops.iou(own, anchors)).max(axis=-1) for own in np.asarray(boxes)]
    return Positives(levels, np.asarray(assigned.objects), np.stack(best))
