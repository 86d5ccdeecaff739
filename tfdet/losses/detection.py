"""The loss of dense detectors with anchors: classes, box codes and, where asked for, IoU."""

import dataclasses
from typing import Any

from keras import ops

from tfdet.errors import UserError
from tfdet.losses import replicas
from tfdet.losses.assignment import Assignment, assign
from tfdet.losses.box import IOU_KINDS, IoUKind, huber_loss, iou_loss
from tfdet.losses.focal import focal_loss
from tfdet.ops import boxes as box_ops
from tfdet.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights and shapes of the loss; the defaults are EfficientDet's published ones.

    Attributes:
        alpha, gamma, label_smoothing: of the focal loss.
        delta: where the Huber loss of box codes turns from square to linear.
        box_loss_weight: factor of the Huber loss.
        iou_loss: None, "iou", "giou", "diou" or "ciou": adds that loss on the decoded boxes.
        iou_loss_weight: its factor.
        skip_crowd: leave out boxes that stand for a crowd; False learns them as one object.
    """

    alpha: float = 0.25
    gamma: float = 1.5
    label_smoothing: float = 0.0
    delta: float = 0.1
    box_loss_weight: float = 50.0
    iou_loss: IoUKind | None = None
    iou_loss_weight: float = 1.0
    skip_crowd: bool = True

    def __post_init__(self):
        if self.iou_loss is not None and self.iou_loss not in IOU_KINDS:
            raise UserError(f"expected iou_loss None or one of {IOU_KINDS}, got {self.iou_loss!r}")
        if not 0 <= self.alpha <= 1:
            raise UserError(f"expected alpha between 0 and 1, got {self.alpha}")
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"expected 0 <= label_smoothing < 1, got {self.label_smoothing}")
        if self.delta <= 0 or self.gamma < 0:
            raise UserError(
                f"expected delta > 0 and gamma >= 0, got delta={self.delta}, gamma={self.gamma}"
            )


def dense_loss_terms(
    targets: dict[str, Tensor], raw: dict[str, Tensor], anchors, config: LossConfig
) -> dict[str, Any]:
    """Weighted loss terms of a batch, each a float32 scalar; their sum is what is minimised.

    Args:
        targets: "boxes" [B, M, 4] xyxy pixels, "labels" [B, M] (-1 = padding) and, if
            `config.skip_crowd`, "is_crowd" [B, M] where there is one.
        raw: "class_logits" [B, K, C] and "box_codes" [B, K, 4], any float dtype.
        anchors: [K, 4] float32 xyxy.
        config: weights.

    Returns:
        "class_loss", "box_loss" and, with `config.iou_loss`, "iou_loss". All are divided by the
        number of positive anchors of the whole batch over all replicas, plus 1: gradients that are
        summed over replicas then do not depend on how many there are. A batch without objects
        has a finite class loss and a box loss of 0.
    """
    logits = ops.cast(raw["class_logits"], "float32")
    codes = ops.cast(raw["box_codes"], "float32")
    is_crowd = targets.get("is_crowd") if config.skip_crowd else None
    assigned = assign(anchors, targets["boxes"], targets["labels"], is_crowd)
    anchors = ops.convert_to_tensor(anchors, "float32")
    is_positive = assigned.labels >= 0
    normalizer = replicas.sum_over_replicas(ops.sum(ops.cast(is_positive, "float32"))) + 1.0

    class_loss = focal_loss(
        logits, assigned.labels, config.alpha, config.gamma, config.label_smoothing
    )
    target_codes = ops.where(is_positive[..., None], box_ops.encode(assigned.boxes, anchors), 0.0)
    box_loss = huber_loss(codes, target_codes, config.delta)
    terms = {
        "class_loss": class_loss / normalizer,
        "box_loss": config.box_loss_weight * box_loss / (normalizer * 4.0),
    }
    if config.iou_loss is not None:
        total = _positive_iou_loss(codes, assigned, anchors, config.iou_loss)
        terms["iou_loss"] = config.iou_loss_weight * total / (normalizer * 4.0)
    return terms


def _positive_iou_loss(codes, assigned: Assignment, anchors, kind: IoUKind):
    """Sum of the IoU losses of the positive anchors."""
    is_positive = (assigned.labels >= 0)[..., None]
    # Background is replaced before the arithmetic: a NaN born there would survive a later mask.
    boxes = box_ops.decode(ops.where(is_positive, codes, 0.0), anchors)
    loss = iou_loss(boxes, ops.where(is_positive, assigned.boxes, anchors), kind)
    return ops.sum(ops.where(is_positive[..., 0], loss, 0.0))
