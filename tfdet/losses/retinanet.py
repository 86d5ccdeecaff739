"""The loss of RetinaNet: https://arxiv.org/abs/1708.02002."""

import dataclasses
from typing import Any

from keras import ops

from tfdet.errors import UserError
from tfdet.losses import replicas
from tfdet.losses.assignment import IGNORED, assign
from tfdet.losses.box import huber_loss
from tfdet.losses.focal import focal_loss
from tfdet.ops import boxes as box_ops
from tfdet.ops.boxes import CODE_WEIGHTS
from tfdet.tensors import Tensor

# So negative that neither the loss nor the gradient of a class sees it.
_NEVER = -1e4


@dataclasses.dataclass(frozen=True)
class RetinaNetLossConfig:
    """Matching and loss; the defaults are the published ones.

    Attributes:
        positive_iou, negative_iou: anchors with a larger IoU are positive, with a smaller one
            background, between them ignored.
        alpha, gamma: of the focal loss.
        beta: where the smooth L1 loss of box codes turns from square to linear.
        skip_crowd: leave out boxes that stand for a crowd.
    """

    positive_iou: float = 0.5
    negative_iou: float = 0.4
    alpha: float = 0.25
    gamma: float = 2.0
    beta: float = 0.11
    skip_crowd: bool = True

    def __post_init__(self):
        if not 0 <= self.negative_iou <= self.positive_iou <= 1:
            raise UserError(
                "expected 0 <= negative_iou <= positive_iou <= 1, got "
                f"{self.negative_iou} and {self.positive_iou}"
            )
        if not 0 <= self.alpha <= 1 or self.gamma < 0 or self.beta <= 0:
            raise UserError(
                "expected alpha between 0 and 1, gamma >= 0 and beta > 0, got "
                f"{self.alpha}, {self.gamma} and {self.beta}"
            )


def retinanet_loss_terms(
    targets: dict[str, Tensor], raw: dict[str, Tensor], anchors, config: RetinaNetLossConfig
) -> dict[str, Any]:
    """Loss terms of a batch, each a float32 scalar.

    Args:
        targets: "boxes" [B, M, 4] xyxy pixels, "labels" [B, M] (-1 = padding) and, if
            `config.skip_crowd`, "is_crowd" [B, M] where there is one.
        raw: "class_logits" [B, K, C] and "box_codes" [B, K, 4], any float dtype; the codes are
            `CODE_WEIGHTS` times those of `ops.boxes.encode`.
        anchors: [K, 4] float32 xyxy.
        config: of matching and loss.

    Returns:
        "class_loss" over positive anchors plus images, "box_loss" over four times the positive
        anchors (at least 1), both counted over all replicas.
    """
    logits = ops.cast(raw["class_logits"], "float32")
    codes = ops.cast(raw["box_codes"], "float32")
    assigned = assign(
        anchors,
        targets["boxes"],
        targets["labels"],
        targets.get("is_crowd") if config.skip_crowd else None,
        config.positive_iou,
        config.negative_iou,
        rescue="ties",
    )
    anchors = ops.convert_to_tensor(anchors, "float32")
    is_positive = assigned.labels >= 0
    positives = replicas.sum_over_replicas(ops.sum(ops.cast(is_positive, "float32")))
    images = replicas.sum_over_replicas(ops.cast(ops.shape(logits)[0], "float32"))
    logits = ops.where((assigned.labels == IGNORED)[..., None], _NEVER, logits)
    class_loss = focal_loss(logits, assigned.labels, config.alpha, config.gamma)
    is_positive = is_positive[..., None]
    wanted = box_ops.encode(ops.where(is_positive, assigned.boxes, anchors), anchors) * CODE_WEIGHTS
    # The smooth L1 loss is the Huber loss divided by the place of the bend.
    box_loss = huber_loss(codes, wanted, config.beta, is_positive) / config.beta
    return {
        "class_loss": class_loss / (positives + images),
        "box_loss": box_loss / ops.maximum(4.0 * positives, 1.0),
    }
