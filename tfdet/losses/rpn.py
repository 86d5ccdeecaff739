"""The loss of a region proposal network: https://arxiv.org/abs/1506.01497."""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from tfdet.errors import UserError
from tfdet.losses import replicas
from tfdet.losses.assignment import IGNORED, assign
from tfdet.ops import boxes as box_ops
from tfdet.ops import sampling
from tfdet.ops.gather import gather_rows, take_rows
from tfdet.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class RPNLossConfig:
    """Matching, sampling and loss; the defaults are mmdetection's.

    Attributes:
        positive_iou, negative_iou: anchors with a larger IoU are positive, with a smaller one
            background, between them ignored.
        rescue_iou: the best anchors of an object are positive from this IoU on.
        samples: anchors of an image that count.
        positive_share: largest share of positives among them.
        skip_crowd: leave out boxes that stand for a crowd.
    """

    positive_iou: float = 0.7
    negative_iou: float = 0.3
    rescue_iou: float = 0.3
    samples: int = 256
    positive_share: float = 0.5
    skip_crowd: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.negative_iou <= self.positive_iou <= 1:
            raise UserError(
                "expected 0 <= negative_iou <= positive_iou <= 1, got "
                f"{self.negative_iou} and {self.positive_iou}"
            )
        if not 0 <= self.rescue_iou <= 1:
            raise UserError(f"rescue_iou must be between 0 and 1, got {self.rescue_iou}")
        if self.samples < 1 or not 0 < self.positive_share <= 1:
            raise UserError(
                "expected samples of at least 1 and a positive_share in (0, 1], got "
                f"{self.samples} and {self.positive_share}"
            )


def rpn_loss_terms(
    targets: dict[str, Tensor],
    raw: dict[str, Tensor],
    anchors: np.ndarray,
    config: RPNLossConfig,
    seeds: tuple[Any, ...],
) -> dict[str, Any]:
    """Loss terms of a batch, each a float32 scalar.

    Args:
        targets: "boxes" [B, M, 4] xyxy pixels, "labels" [B, M] (-1 = padding) and, if
            `config.skip_crowd`, "is_crowd" [B, M] where there is one.
        raw: "objectness_logits" [B, K] and "anchor_codes" [B, K, 4], any float dtype.
        anchors: [K, 4] float32 xyxy.
        config: of matching, sampling and loss.
        seeds: whole numbers that the choice of samples follows from.

    Returns:
        "objectness_loss" (cross-entropy) and "anchor_loss" (L1 of the positives' codes), each over
        the sampled anchors of the batch, counted over all replicas (at least 1).
    """
    logits = ops.cast(raw["objectness_logits"], "float32")
    assigned = assign(
        anchors,
        targets["boxes"],
        targets["labels"],
        targets.get("is_crowd") if config.skip_crowd else None,
        config.positive_iou,
        config.negative_iou,
        rescue="ties",
        rescue_iou=config.rescue_iou,
    )
    anchors = ops.convert_to_tensor(anchors, "float32")
    noise = sampling.noise((ops.shape(logits)[0], logits.shape[1]), *seeds)
    is_positive = assigned.labels >= 0
    is_negative = (assigned.labels < 0) & (assigned.labels != IGNORED)
    positives = int(config.samples * config.positive_share)
    index, is_sampled = sampling.choose(is_positive, is_negative, config.samples, positives, noise)
    is_positive = gather_rows(is_positive, index) & is_sampled
    total = replicas.sum_over_replicas(ops.sum(ops.cast(is_sampled, "float32")))
    total = ops.maximum(total, 1.0)

    near = take_rows(anchors, index)
    boxes = ops.where(is_positive[..., None], gather_rows(assigned.boxes, index), near)
    codes = ops.cast(gather_rows(raw["anchor_codes"], index), "float32")
    error = ops.sum(ops.abs(codes - box_ops.encode(boxes, near)), axis=-1)
    return {
        "objectness_loss": _cross_entropy(gather_rows(logits, index), is_positive, is_sampled)
        / total,
        "anchor_loss": ops.sum(ops.where(is_positive, error, 0.0)) / total,
    }


def _cross_entropy(logits, is_positive, is_sampled):
    loss = ops.softplus(logits) - ops.where(is_positive, logits, 0.0)
    return ops.sum(ops.where(is_sampled, loss, 0.0))
