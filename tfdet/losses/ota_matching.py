"""Which of its candidates learns which object: SimOTA, https://arxiv.org/abs/2107.08430.

The form of YOLOv7, https://arxiv.org/abs/2207.02696, where every object of an image competes for
every candidate of the image.
"""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfdet.ops import boxes as box_ops
from tfdet.ops.gather import gather_rows

NO_MATCH = -1

# More than any real cost: the IoU's part is at most 3 * 18.4, each class adds at most 16.
_NEVER = 1e9
# Probabilities stay this far below 1, so that their logits are finite.
_CERTAIN = -1e-7


class Guesses(NamedTuple):
    """What the N candidates of each image predict now.

    Attributes:
        is_valid: [B, N] bool; the others match nothing.
        boxes: [B, N, 4] float32 xyxy pixels.
        object_logits: [B, N] float32.
        class_logits: [B, N, C] float32.
    """

    is_valid: Any
    boxes: Any
    object_logits: Any
    class_logits: Any


def match(guesses: Guesses, boxes, labels, is_known, top_k: int = 10, iou_weight: float = 3.0):
    """The object that each candidate learns: [B, N] int32 in [0, M), or `NO_MATCH`.

    The cost of a pair is the cross-entropy of all classes, each with the probability
    sqrt(class * object), plus `iou_weight` * -log(IoU). An object takes its cheapest candidates;
    how many is the sum of its `top_k` largest IoUs, rounded down, but at least one. A candidate
    that several objects take goes to the object for which it is cheapest, be it one of them or not.

    Args:
        guesses: of the candidates.
        boxes: [B, M, 4] float32 xyxy pixels, finite.
        labels: [B, M] int32 in [0, C), also where no object is known.
        is_known: [B, M] bool; other objects take nothing.
        top_k: see above.
        iou_weight: see above.
    """
    guesses = Guesses(*map(ops.stop_gradient, guesses))
    ious = box_ops.iou(boxes, guesses.boxes)  # [B, M, N]
    ious = ops.where(guesses.is_valid[:, None], ious, 0.0)
    cost = _class_cost(guesses, labels) - iou_weight * ops.log(ious + 1e-8)
    cost = ops.where(is_known[..., None] & guesses.is_valid[:, None], cost, _NEVER)
    return _assign(cost, ious, top_k)


def _class_cost(guesses: Guesses, labels):
    """[B, M, N] sum over the classes of the cross-entropies of sqrt(class * object)."""
    object_part = ops.log_sigmoid(guesses.object_logits)[..., None]
    log_yes = 0.5 * (ops.log_sigmoid(guesses.class_logits) + object_part)  # [B, N, C]
    log_yes = ops.minimum(log_yes, _CERTAIN)
    log_no = ops.log(-ops.expm1(log_yes))
    gain = gather_rows(ops.transpose(log_yes - log_no, (0, 2, 1)), labels)  # [B, M, N]
    return -ops.sum(log_no, axis=-1)[:, None] - gain


def _assign(cost, ious, top_k: int):
    """The object of each candidate, [B, N] int32, of costs and IoUs [B, M, N]."""
    batch, objects, candidates = ops.shape(cost)
    if cost.shape[-1] is not None:
        top_k = min(top_k, cost.shape[-1])
    wanted = ops.cast(ops.sum(ops.top_k(ious, top_k)[0], axis=-1), "int32")
    wanted = ops.maximum(wanted, 1)[..., None]
    negative_cost, candidate = ops.top_k(-cost, top_k)  # [B, M, k]
    is_taken = (np.arange(top_k) < wanted) & (negative_cost > -_NEVER)

    image = ops.arange(batch, dtype="int32")[:, None, None]
    place = ops.reshape(ops.cast(candidate, "int32") + candidates * image, (-1,))

    def at_candidates(values):
        """Sums of [B, M, k] over what each candidate is taken by, [B, N]."""
        sums = ops.segment_sum(ops.reshape(values, (-1,)), place, num_segments=batch * candidates)
        return ops.reshape(sums, (batch, candidates))

    taker = ops.where(is_taken, ops.arange(1, objects + 1, dtype="int32")[:, None], 0)
    takers = at_candidates(ops.cast(is_taken, "int32"))
    only = at_candidates(taker) - 1
    cheapest = ops.cast(ops.argmin(cost, axis=1), "int32")
    return ops.where(takers > 1, cheapest, ops.where(takers == 1, only, NO_MATCH))
