"""Targets and losses of detectors without anchors (FCOS): https://arxiv.org/abs/1904.01355."""

import dataclasses
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from keras import ops

from tfdet.errors import UserError
from tfdet.losses import replicas
from tfdet.losses.assignment import is_learnable
from tfdet.losses.focal import focal_loss
from tfdet.losses.shared import answered_once
from tfdet.ops import boxes as box_ops
from tfdet.ops import points as point_ops
from tfdet.ops.gather import gather_rows
from tfdet.tensors import Tensor

DistanceLoss = Literal["iou", "linear_iou", "giou"]

# In strides, for images whose shorter side has 800 pixels.
_PUBLISHED_REACH = 8.0
_PUBLISHED_SIDE = 800
# Below, boxes have few cells of their level: a small FCOS had 21 AP less with 2 than with 4.
_LEAST_REACH = 4.0
_NO_LIMIT = 1e8


@dataclasses.dataclass(frozen=True)
class PointLossConfig:
    """Targets and losses; the defaults are those of the improved FCOS and of PackDet.

    Attributes:
        alpha, gamma: of the focal loss.
        center_radius: points within this many strides of a box's centre learn it; 0 for all points
            inside of the box, as in the first FCOS.
        reach: boxes whose largest distance from a point is up to this many strides belong to the
            point's level; the coarsest level takes all larger ones. 0: the published 8 where the
            shorter side of the image has 800 pixels or more, less in proportion to it below, at
            least 4. With 8 in an image of 160 pixels, the finest level would learn all objects.
        box_loss: "giou" (1 - GIoU), "iou" (-log IoU, as in the first FCOS) or "linear_iou".
        skip_crowd: leave out boxes that stand for a crowd.
    """

    alpha: float = 0.25
    gamma: float = 2.0
    center_radius: float = 1.5
    reach: float = 0.0
    box_loss: DistanceLoss = "giou"
    skip_crowd: bool = True

    def __post_init__(self):
        if self.box_loss not in get_args(DistanceLoss):
            raise UserError(f"expected box_loss of {get_args(DistanceLoss)}, got {self.box_loss!r}")
        if not 0 <= self.alpha <= 1 or self.gamma < 0 or self.center_radius < 0:
            raise UserError(
                "expected alpha between 0 and 1, gamma >= 0 and center_radius >= 0, got "
                f"{self.alpha}, {self.gamma} and {self.center_radius}"
            )
        if self.reach < 0:
            raise UserError(f"expected reach >= 0 (0 fits it to the image), got {self.reach}")

    def for_images(self, image_size: tuple[int, int]) -> "PointLossConfig":
        """The same with a reach for images of a size (height, width)."""
        if self.reach:
            return self
        share = min(1.0, min(image_size) / _PUBLISHED_SIDE)
        return dataclasses.replace(self, reach=max(_LEAST_REACH, share * _PUBLISHED_REACH))


class PointTargets(NamedTuple):
    """What each cell should predict.

    Attributes:
        labels: [B, K] int32, -1 = background.
        distances: [B, K, 4] float32 pixels (left, top, right, bottom); 0 for background.
        objects: [B, K] int32, the object's position in the targets; -1 for background.
    """

    labels: Any
    distances: Any
    objects: Any


@answered_once
def assign_points(
    cells: point_ops.Cells,
    boxes,
    labels,
    is_crowd=None,
    center_radius: float = 1.5,
    reach: float = _PUBLISHED_REACH,
) -> PointTargets:
    """Gives every cell the smallest box that it lies in and that has the size of its level.

    Args:
        cells: of the predictions.
        boxes: [B, M, 4] float32 xyxy.
        labels: [B, M] int32, -1 = padding.
        is_crowd: [B, M] bool; these boxes are left out. None keeps all.
        center_radius, reach: see `PointLossConfig`.

    Boxes of equal area go by their order. The size is the largest of the four distances, in pixels.
    """
    is_known = is_learnable(boxes, labels, is_crowd)
    boxes = ops.where(is_known[..., None], boxes, 0.0)
    match = _match(cells, boxes, is_known, center_radius, reach)
    table = ops.pad(boxes, ((0, 0), (1, 0), (0, 0)))
    label_table = ops.pad(ops.cast(labels, "int32") + 1, ((0, 0), (1, 0))) - 1
    matched = gather_rows(label_table, match)
    distances = point_ops.encode(gather_rows(table, match), cells.points, cells.last_pixel)
    is_positive = ops.expand_dims(matched >= 0, -1)
    return PointTargets(matched, ops.where(is_positive, distances, 0.0), match - 1)


def _match(cells: point_ops.Cells, boxes, is_known, center_radius: float, reach: float):
    """Number + 1 of each cell's object, 0 for none: [B, K] int32. One pass over the objects."""
    batch, slots = ops.shape(boxes)[0], boxes.shape[1]
    count = ops.max(ops.where(is_known, ops.arange(slots, dtype="int32") + 1, 0), initial=0)
    low, high = _ranges(cells, reach)

    def step(slot, match, smallest):
        box = ops.take(boxes, slot, axis=1)[:, None]  # [B, 1, 4]
        distances = point_ops.encode(box, cells.points, cells.last_pixel)  # [B, K, 4]
        largest = ops.max(distances, axis=-1)
        area = box_ops.area(box)  # [B, 1]
        fits = _is_inside(distances, box, cells, center_radius)
        fits &= (largest >= low) & (largest <= high) & (area < smallest)
        # Padding is an empty box at the origin; distances to its last pixel are never all positive.
        return slot + 1, ops.where(fits, slot + 1, match), ops.where(fits, area, smallest)

    shape = (batch, len(cells.points))
    start = (ops.zeros((), "int32"), ops.zeros(shape, "int32"), ops.full(shape, float("inf")))
    return ops.while_loop(lambda slot, *_: slot < count, step, start)[1]


def _is_inside(distances, box, cells: point_ops.Cells, center_radius: float):
    """[B, K] bool: the points lie strictly in the box, and near its centre where that is asked."""
    if center_radius > 0:
        left, top, right, bottom = box_ops.columns(distances)
        reach = center_radius * cells.strides
        # From the centre, the point is (left - right) / 2 to the right and (top - bottom) / 2 down.
        is_near = (ops.abs(left - right) < 2 * reach) & (ops.abs(top - bottom) < 2 * reach)
        return is_near & (ops.min(distances, axis=-1) > 0)
    return ops.min(distances, axis=-1) > 0


def _ranges(cells: point_ops.Cells, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest size of the boxes of each cell, [K] each."""
    levels, largest = cells.levels, reach * cells.strides
    low = np.where(levels == levels.min(), -1.0, largest / 2)
    high = np.where(levels == levels.max(), _NO_LIMIT, largest)
    return low.astype(np.float32), high.astype(np.float32)


def centerness(distances):
    """How central a point is in its box, 1 in the middle and 0 at the edge: [..., 4] -> [...]."""
    left, top, right, bottom = box_ops.columns(distances)
    x = ops.minimum(left, right) / ops.maximum(left, right)
    y = ops.minimum(top, bottom) / ops.maximum(top, bottom)
    return ops.sqrt(x * y)


def distance_loss(distances, targets, kind: DistanceLoss = "giou"):
    """IoU loss of boxes around one point, given as distances [..., 4] -> [...].

    The published 1 is added to both areas, in whatever unit the distances have.
    """
    left, top, right, bottom = box_ops.columns(distances)
    left_t, top_t, right_t, bottom_t = box_ops.columns(targets)
    width = ops.minimum(left, left_t) + ops.minimum(right, right_t)
    height = ops.minimum(top, top_t) + ops.minimum(bottom, bottom_t)
    shared = width * height
    union = (left + right) * (top + bottom) + (left_t + right_t) * (top_t + bottom_t) - shared
    iou = (shared + 1.0) / (union + 1.0)
    if kind == "iou":
        return -ops.log(iou)
    if kind == "linear_iou":
        return 1.0 - iou
    hull_width = ops.maximum(left, left_t) + ops.maximum(right, right_t)
    hull_height = ops.maximum(top, top_t) + ops.maximum(bottom, bottom_t)
    hull = hull_width * hull_height + 1e-7
    return 1.0 - iou + (hull - union) / hull


def point_loss_terms(
    targets: dict[str, Tensor],
    raw: dict[str, Tensor],
    cells: point_ops.Cells,
    config: PointLossConfig,
    is_normalized: bool,
) -> dict[str, Any]:
    """Weighted loss terms of a batch, each a float32 scalar.

    Args:
        targets: "boxes" [B, M, 4] xyxy pixels, "labels" [B, M] (-1 = padding) and, if
            `config.skip_crowd`, "is_crowd" [B, M] where there is one.
        raw: "class_logits" [B, K, C], "box_distances" [B, K, 4] >= 0 and "centerness_logits"
            [B, K], any float dtype.
        cells: where the K predictions stand.
        config: of targets and losses; a reach of 0 is the published one.
        is_normalized: the predicted distances are in strides, not in pixels.

    Returns:
        "class_loss" and "centerness_loss", over the positive cells of all replicas (at least 1);
        "box_loss", a mean weighted with the target centerness. Without objects the last two are 0.
    """
    logits, distances, center_logits = (
        ops.cast(raw[name], "float32")
        for name in ("class_logits", "box_distances", "centerness_logits")
    )
    is_crowd = targets.get("is_crowd") if config.skip_crowd else None
    reach = config.reach or _PUBLISHED_REACH
    labels, wanted, _ = assign_points(
        cells, targets["boxes"], targets["labels"], is_crowd, config.center_radius, reach
    )
    is_positive = labels >= 0
    positives = replicas.sum_over_replicas(ops.sum(ops.cast(is_positive, "float32")))
    positives = ops.maximum(positives, 1.0)
    # Background is replaced before the arithmetic: a NaN born there would survive a later mask.
    has_box = ops.expand_dims(is_positive, -1)
    wanted = ops.where(has_box, wanted, 1.0)
    center = ops.where(is_positive, centerness(wanted), 0.0)
    if is_normalized:
        wanted = wanted / cells.strides[:, None]
    box_losses = distance_loss(ops.where(has_box, distances, wanted), wanted, config.box_loss)
    center_losses = ops.softplus(center_logits) - center * center_logits
    weight = replicas.sum_over_replicas(ops.sum(center))
    return {
        "class_loss": focal_loss(logits, labels, config.alpha, config.gamma) / positives,
        "box_loss": ops.sum(box_losses * center) / ops.maximum(weight, 1e-6),
        "centerness_loss": ops.sum(ops.where(is_positive, center_losses, 0.0)) / positives,
    }
