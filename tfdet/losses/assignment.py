"""Which anchor is responsible for which object."""

from typing import Any, Literal, NamedTuple

import keras
from keras import ops

from tfdet.ops import boxes as box_ops
from tfdet.ops.gather import gather_rows


class Assignment(NamedTuple):
    """What each anchor should predict.

    Attributes:
        labels: [B, K] int32, -1 = background, -2 = ignored.
        boxes: [B, K, 4] float32 xyxy, the matched object; 0 for background and ignored.
        objects: [B, K] int32, the matched object's position in the targets; -1 for the others.
    """

    labels: Any
    boxes: Any
    objects: Any


# Label of an anchor that counts neither as an object nor as background.
IGNORED = -2


def assign(
    anchors,
    boxes,
    labels,
    is_crowd=None,
    positive_iou: float = 0.5,
    negative_iou: float | None = None,
    rescue: Literal["first", "ties", "none"] = "first",
    rescue_iou: float = 0.0,
) -> Assignment:
    """Matches anchors to objects by IoU; the defaults are EfficientDet's.

    An anchor takes the object with the largest IoU if that is at least `positive_iou`; it is
    background otherwise, or ignored down to `negative_iou`. Then objects without a good anchor are
    rescued, so that none that touches an anchor is left out. Ties between objects go to the first.

    Args:
        anchors: [K, 4] float32 xyxy, or [B, K, 4] where each image has its own.
        boxes: [B, M, 4] float32 xyxy in the same pixels.
        labels: [B, M] int32, -1 = padding.
        is_crowd: [B, M] bool; these boxes are left out (their anchors count as background).
            None keeps all.
        positive_iou: smallest IoU of a positive anchor.
        negative_iou: anchors from here to `positive_iou` are ignored; None ignores none.
        rescue: "first": every object takes its first best anchor. "ties" (RetinaNet): every anchor
            that no other surpasses for some object takes the object that itself overlaps most.
            "none": an object may be left out.
        rescue_iou: with "ties", the smallest IoU of an anchor that is taken so.

    Boxes that are empty, not finite, or away from every anchor are never assigned.
    """
    is_object = is_learnable(boxes, labels, is_crowd)
    boxes = ops.where(is_object[..., None], boxes, 0.0)
    tie_iou = rescue_iou if rescue == "ties" else None
    best_iou, match, best_anchor, is_best = _match(anchors, boxes, is_object, tie_iou)
    is_positive = (best_iou >= positive_iou) | is_best
    match = ops.where(is_positive, match, 0)
    if rescue == "first":
        forced = _forced(best_anchor, ops.shape(match))
        match = ops.where(forced > 0, forced, match)
    # Row 0 of the tables is the background, so that every anchor can look up its match.
    table = ops.pad(boxes, ((0, 0), (1, 0), (0, 0)))
    label_table = ops.pad(ops.cast(labels, "int32") + 1, ((0, 0), (1, 0))) - 1
    matched = gather_rows(label_table, match)
    if negative_iou is not None:
        is_ignored = (matched < 0) & (best_iou >= negative_iou)
        matched = ops.where(is_ignored, IGNORED, matched)
    return Assignment(matched, gather_rows(table, match), match - 1)


def is_learnable(boxes, labels, is_crowd):
    """[B, M] bool: True for boxes that can be learnt."""
    is_object = (labels >= 0) & ops.all(ops.isfinite(boxes), axis=-1)
    left, top, right, bottom = box_ops.columns(boxes)
    is_object &= (right > left) & (bottom > top)
    return is_object if is_crowd is None else is_object & ~is_crowd


def without_padding(boxes, labels, is_object, least: int = 1):
    """The targets up to the batch's last object, at least `least` of them: [B, m, ...] of each.

    Rows of images are padded to a hundred objects, most of which are not there. Only TensorFlow has
    tensors whose shape depends on values; elsewhere all rows stay.

    Args:
        boxes: [B, M, 4].
        labels: [B, M].
        is_object: [B, M] bool.
        least: see above.
    """
    if keras.backend.backend() != "tensorflow":
        return boxes, labels, is_object
    slots = ops.shape(boxes)[1]
    numbers = ops.where(is_object, ops.arange(1, slots + 1, dtype="int32"), least)
    count = ops.minimum(ops.max(numbers, initial=least), slots)
    return tuple(values[:, :count] for values in (boxes, labels, is_object))


def _match(anchors, boxes, is_object, tie_iou: float | None):
    """One pass over the objects.

    Returns the best IoU of each anchor [B, K], its object + 1 [B, K], the first best anchor of each
    object [B, M], and which anchors are among the best of some object, with an IoU of at least
    `tie_iou` (none where it is None), [B, K].

    The loop stops after the last object of the batch: padding, usually nine tenths of M, costs
    nothing, and memory stays at a few [B, K] maps where an IoU matrix would need M of them.
    `best anchor` is -1 for padding and for objects that touch no anchor.
    """
    batch, slots = ops.shape(boxes)[0], boxes.shape[1]
    anchor_sides = box_ops.sides(ops.convert_to_tensor(anchors, "float32"))
    slot_index = ops.arange(slots, dtype="int32")
    count = ops.max(ops.where(is_object, slot_index + 1, 0), initial=0)

    def step(slot, best_iou, match, best_anchor, is_best):
        iou = box_ops.overlap(
            anchor_sides, box_ops.sides(ops.take(boxes, slot, axis=1)[:, None])
        )  # [B, K]
        match = ops.where(iou > best_iou, slot + 1, match)
        # top_k, since Keras's argmax spends four more passes on negative zeros.
        top_iou, anchor = ops.top_k(iou, 1)
        anchor = ops.where(top_iou > 0, ops.cast(anchor, "int32"), -1)  # [B, 1]
        best_anchor = ops.where(slot_index == slot, anchor, best_anchor)
        if tie_iou is not None:
            is_best |= (iou == top_iou) & (top_iou > 0) & (top_iou >= tie_iou)
        return slot + 1, ops.maximum(iou, best_iou), match, best_anchor, is_best

    shape = (batch, anchors.shape[-2])
    start = (
        ops.zeros((), "int32"),
        ops.zeros(shape, "float32"),
        ops.zeros(shape, "int32"),
        ops.full((batch, slots), -1, "int32"),
        ops.zeros(shape, "bool"),
    )
    return ops.while_loop(lambda slot, *_: slot < count, step, start)[1:]


def _forced(best_anchor, shape):
    """[B, K] int32: object + 1 where an object claims its best anchor, else 0."""
    batch, slots = ops.shape(best_anchor)[0], best_anchor.shape[1]
    slot_index = ops.arange(slots, dtype="int32")
    same = best_anchor[:, :, None] == best_anchor[:, None, :]  # [B, M, M]
    is_earlier = slot_index[None, :] < slot_index[:, None]
    wins = (best_anchor >= 0) & ~ops.any(same & is_earlier, axis=-1)
    # Each anchor has one winner; the losers add 0, so that summing duplicates is harmless.
    claim = ops.where(wins, slot_index + 1, 0)
    image = ops.broadcast_to(ops.arange(batch, dtype="int32")[:, None], ops.shape(best_anchor))
    index = ops.stack([image, ops.maximum(best_anchor, 0)], axis=-1)
    return ops.scatter(ops.reshape(index, (-1, 2)), ops.reshape(claim, (-1,)), shape)
