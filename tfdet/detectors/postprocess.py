"""From dense predictions to detections: one implementation for Python, evaluation and export."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from tfdet.ops import boxes as box_ops
from tfdet.ops.gather import gather_rows
from tfdet.ops.nms import NMSConfig, non_max_suppression
from tfdet.tensors import Tensor


def postprocess(
    class_logits: Tensor,
    box_codes: Tensor,
    anchors: Tensor,
    nms: NMSConfig,
    image_size: tuple[int, int],
    levels: np.ndarray | None = None,
    max_log_size: float | None = None,
    code_scale: np.ndarray | None = None,
) -> dict[str, Tensor]:
    """Detections of a batch from the predictions of all anchors.

    Args:
        class_logits: [B, K, C], any float dtype; B may be 0.
        box_codes: [B, K, 4] (ty, tx, th, tw).
        anchors: [K, 4] float32 xyxy pixels.
        nms, image_size, levels: see `detections`, which also describes what is returned.
        max_log_size: see `ops.boxes.decode`.
        code_scale: [4], what the predicted codes are multiplied by.

    Only the candidates are decoded and go through the sigmoid.
    """
    anchors = ops.convert_to_tensor(anchors, "float32")

    def decode(rows: Tensor) -> Tensor:
        codes = ops.cast(gather_rows(box_codes, rows), "float32")
        if code_scale is not None:
            codes *= code_scale
        return box_ops.decode(codes, ops.take(anchors, rows, axis=0), max_log_size)

    return detections(class_logits, decode, nms, image_size, levels)


def detections(
    class_logits: Tensor,
    decode: Callable[[Tensor], Tensor],
    nms: NMSConfig,
    image_size: tuple[Any, Any],
    levels: np.ndarray | None = None,
    quality_logits: Tensor | None = None,
) -> dict[str, Tensor]:
    """Detections of a batch from dense predictions.

    Args:
        class_logits: [B, K, C], any float dtype; B may be 0.
        decode: returns the boxes [B, N, 4] float32 xyxy of the rows [B, N] int32 in 0..K-1.
        nms: candidates, method and limits.
        image_size: (height, width) that boxes are clipped to.
        levels: [K] level of each row, a NumPy constant; for `nms.per_level`.
        quality_logits: [B, K]; the probability of a class is multiplied by this one's, and the
            score is the root of the product. For `nms.per_level`.

    Returns:
        "boxes" [B, M, 4] float32 xyxy pixels, "scores" [B, M] float32 descending, "labels" [B, M]
        int32, "count" [B] int32, with M = `nms.max_detections`. Rows from `count` on are box 0,
        score 0, label -1. Predictions that are not finite are never detections.

    Suppression sees unclipped boxes, as EfficientDet published it, or clipped ones where
    `nms.clips_first`.
    """
    logits = ops.cast(class_logits, "float32")
    if nms.per_level:
        if levels is None:
            raise ValueError("nms.per_level needs the level of each row in levels")
        rows, labels, scores = _level_candidates(logits, quality_logits, levels, nms)
    else:
        rows, labels, values = _candidates(logits, nms.max_candidates)
        scores = ops.sigmoid(values)
    return _suppressed(rows, labels, scores, decode, nms, image_size)


def object_detections(
    class_logits: Tensor,
    object_logits: Tensor,
    decode: Callable[[Tensor], Tensor],
    nms: NMSConfig,
    image_size: tuple[Any, Any],
) -> dict[str, Tensor]:
    """Detections of a batch whose scores are those of an object times those of its class (YOLO).

    Args:
        class_logits: [B, K, C], any float dtype. With one class the object's score is the score.
        object_logits: [B, K].
        decode, nms, image_size: see `detections`, which also describes what is returned. Candidates
            are those of all levels.
    """
    scores = _probability(ops.cast(object_logits, "float32"))[..., None]
    if class_logits.shape[-1] > 1:
        scores *= _probability(ops.cast(class_logits, "float32"))
    rows, labels, scores = _candidates(scores, nms.max_candidates)
    return _suppressed(rows, labels, scores, decode, nms, image_size)


def region_detections(
    class_logits: Tensor,
    decode: Callable[[Tensor, Tensor], Tensor],
    nms: NMSConfig,
    image_size: tuple[Any, Any],
    is_region: Tensor,
) -> dict[str, Tensor]:
    """Detections of a batch whose classes share one softmax with the background (Faster R-CNN).

    Args:
        class_logits: [B, K, C + 1], any float dtype; the last class is the background.
        decode: returns the boxes [B, N, 4] float32 xyxy of rows and labels [B, N] int32.
        nms, image_size: see `detections`, which also describes what is returned.
        is_region: [B, K] bool; other rows are never detections.
    """
    chances = ops.softmax(ops.cast(class_logits, "float32"))[..., :-1]
    scores = ops.where(is_region[..., None], chances, 0.0)
    rows, labels, scores = _candidates(scores, nms.max_candidates)
    return _suppressed(rows, labels, scores, lambda rows: decode(rows, labels), nms, image_size)


def _suppressed(
    rows: Tensor,
    labels: Tensor,
    scores: Tensor,
    decode: Callable[[Tensor], Tensor],
    nms: NMSConfig,
    image_size: tuple[Any, Any],
) -> dict[str, Tensor]:
    """Candidates of rows, labels and scores [B, N] to detections."""
    boxes = decode(rows)
    if nms.clips_first:
        boxes = box_ops.clip(boxes, image_size)
    index, scores, count = non_max_suppression(boxes, scores, labels, nms)
    is_detection = scores > 0
    boxes = box_ops.clip(gather_rows(boxes, index), image_size)
    return {
        "boxes": ops.where(is_detection[..., None], boxes, 0.0),
        "scores": scores,
        "labels": ops.where(is_detection, gather_rows(labels, index), -1),
        "count": count,
    }


def _candidates(logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best (anchor, class) pairs: anchors [B, N], labels [B, N] int32, logits [B, N] falling.

    N = min(count, K * C), or K with one class per anchor where count is 0.

    The pairs are looked for among the `count` anchors with the best maximum: any other anchor has
    `count` better pairs before it. Exact, ties included (the anchors are put back in order), and
    the sort sees 90 times fewer numbers.
    """
    anchors, classes = logits.shape[1:]
    if count == 0:
        best, label = ops.top_k(logits, 1)
        rows = ops.broadcast_to(ops.arange(anchors, dtype="int32"), ops.shape(best)[:2])
        return rows, ops.cast(label, "int32")[..., 0], best[..., 0]
    # Without `initial` Keras refuses an empty batch.
    best = _without_nan(ops.max(logits, axis=-1, initial=-float("inf")))  # [B, K]
    _, rows = ops.top_k(best, min(count, anchors))
    rows = ops.sort(ops.cast(rows, "int32"), axis=1)
    pairs = _without_nan(gather_rows(logits, rows))  # [B, rows, C]
    pairs = ops.reshape(pairs, (ops.shape(pairs)[0], rows.shape[1] * classes))
    values, index = ops.top_k(pairs, min(count, pairs.shape[1]))
    index = ops.cast(index, "int32")
    return gather_rows(rows, index // classes), index % classes, values


def _without_nan(logits: Tensor) -> Tensor:
    """NaN compares false with everything and would end up anywhere in a sort."""
    return ops.where(ops.isnan(logits), -float("inf"), logits)


def _level_candidates(
    logits: Tensor, quality_logits: Tensor | None, levels: np.ndarray, nms: NMSConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs of each level: rows [B, N], labels [B, N] int32, scores [B, N].

    A pair counts if its class is more probable than `nms.class_threshold`; the score of others is
    0. As in `_candidates`, the pairs of the best rows include the best pairs.
    """
    best = _probability(ops.max(logits, axis=-1, initial=-float("inf")))  # [B, K]
    quality = None if quality_logits is None else _probability(ops.cast(quality_logits, "float32"))
    rank = _rank(best, quality, nms)
    parts = []
    for level in np.unique(levels):
        index = np.flatnonzero(levels == level).astype(np.int32)
        _, rows = ops.top_k(ops.take(rank, index, axis=1), min(nms.max_candidates, len(index)))
        rows = ops.take(index, ops.sort(ops.cast(rows, "int32"), axis=1))
        parts.append(_best_pairs(logits, quality, rows, nms))
    rows, labels, scores = (
        ops.concatenate(list(part), axis=1) for part in zip(*parts, strict=True)
    )
    return rows, labels, scores if quality is None else ops.sqrt(scores)


def _best_pairs(
    logits: Tensor, quality: Tensor | None, rows: Tensor, nms: NMSConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs among `rows` [B, R]."""
    classes = logits.shape[-1]
    probability = _probability(gather_rows(logits, rows))  # [B, R, C]
    near = None if quality is None else gather_rows(quality, rows)[..., None]
    pairs = _rank(probability, near, nms)
    pairs = ops.reshape(pairs, (ops.shape(pairs)[0], rows.shape[1] * classes))
    values, index = ops.top_k(pairs, min(nms.max_candidates, pairs.shape[1]))
    index = ops.cast(index, "int32")
    return gather_rows(rows, index // classes), index % classes, values


def _rank(probability: Tensor, quality: Tensor | None, nms: NMSConfig) -> Tensor:
    value = probability if quality is None else probability * quality
    return ops.where(probability > nms.class_threshold, value, 0.0)


def _probability(logits: Tensor) -> Tensor:
    return ops.sigmoid(_without_nan(logits))
