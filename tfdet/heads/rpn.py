"""The region proposal network of Faster R-CNN: https://arxiv.org/abs/1506.01497."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from tfdet import records
from tfdet.errors import UserError
from tfdet.layers.composite import Composite, on_each
from tfdet.layers.symmetric import SymmetricConv2D
from tfdet.ops import boxes as box_ops
from tfdet.ops.anchors import AnchorConfig, anchor_counts, anchors
from tfdet.ops.boxes import MAX_LOG_SIZE
from tfdet.ops.gather import gather_rows, take_rows
from tfdet.ops.nms import survivors
from tfdet.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class ProposalConfig:
    """Which predictions of the network become proposals; the defaults are mmdetection's.

    Attributes:
        training_candidates, candidates: best predictions of each level that take part, in training
            and in inference.
        count: proposals of an image.
        iou_threshold: largest overlap of two proposals of one level.
    """

    training_candidates: int = 2000
    candidates: int = 1000
    count: int = 1000
    iou_threshold: float = 0.7

    def __post_init__(self) -> None:
        for name in ("training_candidates", "candidates", "count"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.iou_threshold <= 1:
            raise UserError(
                f"iou_threshold must be between 0 and 1, got {self.iou_threshold}; 1 keeps all"
            )


@keras.saving.register_keras_serializable(package="tfdet")
class RPNHead(Composite):
    """Maps {"P2": ..., "P6": ...} to {"objectness_logits": [B, K], "anchor_codes": [B, K, 4]}.

    K counts the anchors in the order level, row, column, anchor of the cell. One 3x3 convolution,
    shared by the levels, and a 1x1 one for each prediction.

    Args:
        anchors_per_cell: anchors at each position.
        filters: of the shared convolution.
    """

    def __init__(self, anchors_per_cell: int = 3, filters: int = 256, **kwargs: Any):
        super().__init__(**kwargs)
        self.anchors_per_cell = anchors_per_cell
        self.filters = filters
        self.conv = _conv(filters, 3, "conv")
        self.objectness = _conv(anchors_per_cell, 1, "objectness")
        self.codes = _conv(4 * anchors_per_cell, 1, "codes")

    def call(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        levels = [ops.relu(x) for x in on_each(self.conv, maps.values())]
        counts = [x.shape[1] * x.shape[2] * self.anchors_per_cell for x in levels]

        def rows(layer: SymmetricConv2D, *numbers: int) -> Any:
            outputs = zip(on_each(layer, levels), counts, strict=True)
            return ops.concatenate([ops.reshape(x, (-1, n, *numbers)) for x, n in outputs], axis=1)

        return {"objectness_logits": rows(self.objectness), "anchor_codes": rows(self.codes, 4)}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "anchors_per_cell": self.anchors_per_cell,
            "filters": self.filters,
        }


@keras.saving.register_keras_serializable(package="tfdet")
class Proposals(keras.layers.Layer):
    """The best boxes of a region proposal network, without gradient.

    Call it with the head's predictions and `image_size=(height, width)`. Returns `{"boxes":
    [B, P, 4] float32 xyxy inside the image, "is_proposal": [B, P] bool}`, best first, P = `count`
    or K where that is less.

    Args:
        anchors: what the head predicts for.
        config: which predictions become proposals.
    """

    def __init__(self, anchors: AnchorConfig, config: ProposalConfig, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.anchors = anchors
        self.config = config
        self.built = True

    def call(
        self,
        predictions: dict[str, Tensor],
        image_size: tuple[int, int],
        training: bool | None = None,
    ) -> dict[str, Tensor]:
        config = self.config
        limit = config.training_candidates if training else config.candidates
        scores = ops.cast(ops.stop_gradient(predictions["objectness_logits"]), "float32")
        codes = ops.cast(ops.stop_gradient(predictions["anchor_codes"]), "float32")
        boxes = anchors(self.anchors, image_size)
        parts, start = [], 0
        for count in anchor_counts(self.anchors, image_size):
            rows = slice(start, start + count)
            part = scores[:, rows], codes[:, rows], boxes[rows]
            parts.append(self._of_level(*part, limit, image_size))
            start += count
        boxes, scores = (ops.concatenate(list(x), axis=1) for x in zip(*parts, strict=True))
        best, rows = ops.top_k(scores, min(config.count, boxes.shape[1]))
        is_proposal = best > -np.inf
        boxes = ops.where(is_proposal[..., None], gather_rows(boxes, ops.cast(rows, "int32")), 0.0)
        missing = min(config.count, start) - boxes.shape[1]
        return {
            "boxes": ops.pad(boxes, ((0, 0), (0, missing), (0, 0))),
            "is_proposal": ops.pad(is_proposal, ((0, 0), (0, missing))),
        }

    def _of_level(self, scores, codes, near, limit: int, image_size) -> tuple[Any, Any]:
        """Boxes [B, n, 4], best first, and scores [B, n], -inf where a box fell."""
        scores = ops.where(ops.isnan(scores), -np.inf, scores)
        scores, rows = ops.top_k(scores, min(limit, scores.shape[1]))
        rows = ops.cast(rows, "int32")
        near = take_rows(ops.convert_to_tensor(near, "float32"), rows)
        boxes = box_ops.decode(gather_rows(codes, rows), near, MAX_LOG_SIZE)
        boxes = box_ops.clip(boxes, image_size)
        is_box = ops.isfinite(scores) & (box_ops.area(boxes) > 0)
        stays = survivors(boxes, is_box, self.config.iou_threshold)
        return boxes, ops.where(stays, scores, -np.inf)

    def compute_output_spec(
        self,
        predictions: dict[str, Tensor],
        image_size: tuple[int, int],
        training: bool | None = None,
    ) -> dict[str, Tensor]:
        logits = predictions["objectness_logits"]
        shape = (logits.shape[0], min(self.config.count, logits.shape[1]))
        return {
            "boxes": keras.KerasTensor((*shape, 4), "float32"),
            "is_proposal": keras.KerasTensor(shape, "bool"),
        }

    def get_config(self) -> dict[str, Any]:
        parts = {"anchors": self.anchors, "config": self.config}
        return {**super().get_config(), **{k: records.to_dict(v) for k, v in parts.items()}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Proposals":
        kinds = {"anchors": AnchorConfig, "config": ProposalConfig}
        parts = {name: records.from_dict(kind, config[name]) for name, kind in kinds.items()}
        return cls(**{**config, **parts})


def _conv(filters: int, size: int, name: str) -> SymmetricConv2D:
    return SymmetricConv2D(
        filters, size, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01), name=name
    )
