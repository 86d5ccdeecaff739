"""From dense predictions to detections: one implementation for Python, evaluation and export."""

from keras import ops

from tfdet.ops import boxes as box_ops
from tfdet.ops.gather import gather_rows
from tfdet.ops.nms import NMSConfig, non_max_suppression


def postprocess(class_logits, box_codes, anchors, nms: NMSConfig, image_size: tuple[int, int]):
    """Detections of a batch from the predictions of all anchors.

    Args:
        class_logits: [B, K, C], any float dtype; B may be 0.
        box_codes: [B, K, 4] (ty, tx, th, tw).
        anchors: [K, 4] float32 xyxy pixels.
        nms: candidates, method and limits.
        image_size: (height, width) that boxes are clipped to.

    Returns:
        "boxes" [B, M, 4] float32 xyxy pixels, "scores" [B, M] float32 descending, "labels" [B, M]
        int32, "count" [B] int32, with M = `nms.max_detections`. Rows from `count` on are box 0,
        score 0, label -1. Predictions that are not finite are never detections.

    Only the candidates are decoded and go through the sigmoid. Suppression sees their unclipped
    boxes, as published.
    """
    rows, labels, logits = _candidates(ops.cast(class_logits, "float32"), nms.max_candidates)
    codes = ops.cast(gather_rows(box_codes, rows), "float32")
    boxes = box_ops.decode(codes, ops.take(ops.convert_to_tensor(anchors, "float32"), rows, axis=0))
    index, scores, count = non_max_suppression(boxes, ops.sigmoid(logits), labels, nms)
    is_detection = scores > 0
    boxes = box_ops.clip(gather_rows(boxes, index), image_size)
    return {
        "boxes": ops.where(is_detection[..., None], boxes, 0.0),
        "scores": scores,
        "labels": ops.where(is_detection, gather_rows(labels, index), -1),
        "count": count,
    }


def _candidates(logits, count: int):
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


def _without_nan(logits):
    """NaN compares false with everything and would end up anywhere in a sort."""
    return ops.where(ops.isnan(logits), -float("inf"), logits)
