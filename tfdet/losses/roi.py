"""Samples of proposals and the losses of the heads that see them: Faster and Mask R-CNN."""

import dataclasses
from typing import Any, NamedTuple

from keras import ops

from tfdet.errors import UserError
from tfdet.losses import replicas
from tfdet.losses.assignment import assign, is_learnable
from tfdet.ops import boxes as box_ops
from tfdet.ops import sampling
from tfdet.ops.boxes import CODE_WEIGHTS
from tfdet.ops.gather import gather_rows
from tfdet.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class RoILossConfig:
    """Matching and sampling of proposals; the defaults are mmdetection's.

    Attributes:
        positive_iou: proposals with a smaller IoU are background.
        samples: proposals of an image that count.
        positive_share: largest share of positives among them.
        skip_crowd: leave out boxes that stand for a crowd.
        box_weight: of the loss of boxes beside that of classes.
    """

    positive_iou: float = 0.5
    samples: int = 512
    positive_share: float = 0.25
    skip_crowd: bool = True
    box_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.positive_iou <= 1:
            raise UserError(f"positive_iou must be in (0, 1], got {self.positive_iou}")
        if self.samples < 1 or not 0 < self.positive_share <= 1:
            raise UserError(
                "expected samples of at least 1 and a positive_share in (0, 1], got "
                f"{self.samples} and {self.positive_share}"
            )
        if not 0 <= self.box_weight < float("inf"):
            raise UserError(f"box_weight must be at least 0, got {self.box_weight}")

    @property
    def max_positives(self) -> int:
        return max(int(self.samples * self.positive_share), 1)


class Samples(NamedTuple):
    """S proposals of each image that a head learns from, positives first.

    Attributes:
        boxes: [B, S, 4] float32 xyxy.
        labels: [B, S] int32, -1 = background.
        target_boxes: [B, S, 4], the matched object; 0 for background.
        objects: [B, S] int32, its position in the targets; -1 for background.
        is_sampled: [B, S] bool; other rows fill up.
    """

    boxes: Any
    labels: Any
    target_boxes: Any
    objects: Any
    is_sampled: Any


def sample_proposals(
    targets: dict[str, Tensor],
    boxes,
    is_proposal,
    config: RoILossConfig,
    seeds: tuple[Any, ...],
) -> Samples:
    """Chooses among the proposals and the objects' own boxes, which teach while proposals are bad.

    Args:
        targets: as in `losses.rpn.rpn_loss_terms`.
        boxes: [B, P, 4] float32 xyxy.
        is_proposal: [B, P] bool.
        config: of matching and sampling.
        seeds: whole numbers that the choice follows from.
    """
    is_crowd = targets.get("is_crowd") if config.skip_crowd else None
    is_object = is_learnable(targets["boxes"], targets["labels"], is_crowd)
    objects = ops.where(is_object[..., None], targets["boxes"], 0.0)
    boxes = ops.stop_gradient(ops.concatenate([boxes, objects], axis=1))
    is_box = ops.concatenate([is_proposal, is_object], axis=1)
    found = assign(
        boxes, targets["boxes"], targets["labels"], is_crowd, config.positive_iou, rescue="none"
    )
    is_positive = found.labels >= 0
    count = min(config.samples, boxes.shape[1])
    noise = sampling.noise((ops.shape(boxes)[0], boxes.shape[1]), *seeds)
    index, is_sampled = sampling.choose(
        is_positive & is_box, ~is_positive & is_box, count, config.max_positives, noise
    )
    labels = ops.where(is_sampled, gather_rows(found.labels, index), -1)
    rows = (gather_rows(x, index) for x in (boxes, found.boxes, found.objects))
    boxes, target_boxes, objects = rows
    return Samples(boxes, labels, target_boxes, ops.where(labels >= 0, objects, -1), is_sampled)


def box_head_loss_terms(
    predictions: dict[str, Tensor], samples: Samples, box_weight: float = 1.0
) -> dict[str, Any]:
    """Loss terms of the box head, each a float32 scalar.

    Args:
        predictions: of the samples: "class_logits" [B, S, C + 1] and "box_codes" [B, S, 4 * C], any
            float dtype; the codes are `CODE_WEIGHTS` times those of `ops.boxes.encode`.
        samples: what the head has seen.
        box_weight: factor of "box_loss".

    Returns:
        "class_loss" (softmax cross-entropy) and "box_loss" (L1 of the codes of the object's own
        class), each over all samples of the batch, counted over all replicas (at least 1).
    """
    logits = ops.cast(predictions["class_logits"], "float32")
    classes = logits.shape[-1] - 1
    total = replicas.sum_over_replicas(ops.sum(ops.cast(samples.is_sampled, "float32")))
    total = ops.maximum(total, 1.0)
    is_positive = samples.labels >= 0
    wanted = ops.where(is_positive, samples.labels, classes)
    chance = ops.take_along_axis(ops.log_softmax(logits), wanted[..., None], axis=-1)[..., 0]
    class_loss = -ops.sum(ops.where(samples.is_sampled, chance, 0.0))

    codes = class_codes(predictions["box_codes"], samples.labels)
    boxes = ops.where(is_positive[..., None], samples.target_boxes, samples.boxes)
    error = ops.abs(codes - box_ops.encode(boxes, samples.boxes) * CODE_WEIGHTS)
    box_loss = box_weight * ops.sum(ops.where(is_positive[..., None], error, 0.0))
    return {"class_loss": class_loss / total, "box_loss": box_loss / total}


def class_codes(box_codes, labels):
    """The four codes of each row's class: [B, N, 4 * C] and [B, N] -> [B, N, 4] float32."""
    codes = ops.reshape(box_codes, (*ops.shape(box_codes)[:2], box_codes.shape[-1] // 4, 4))
    index = ops.maximum(labels, 0)[..., None, None]
    return ops.cast(ops.take_along_axis(codes, index, axis=2)[:, :, 0], "float32")
