"""Non-maximum suppression, hard and soft, batched, on any Keras backend."""

import dataclasses
from typing import Literal, get_args

from keras import ops

from tfdet.errors import UserError
from tfdet.ops import boxes as box_ops
from tfdet.ops.gather import gather_rows

Method = Literal["hard", "diou", "linear", "gaussian"]
Mode = Literal["per_class", "global"]

# What None means, per method (EfficientDet's post-processing). A missing key has no meaning there.
_DEFAULTS = {
    "hard": {"iou_threshold": 0.5, "score_threshold": 0.0},
    "diou": {"iou_threshold": 0.5, "score_threshold": 0.0},
    "linear": {"iou_threshold": 0.3, "score_threshold": 0.001},
    "gaussian": {"sigma": 0.5, "score_threshold": 0.001},
}


@dataclasses.dataclass(frozen=True)
class NMSConfig:
    """How overlapping detections are thinned out.

    Attributes:
        method: what happens to a box that overlaps a better one. "hard" drops it above
            `iou_threshold`; "diou" does so by IoU minus the relative distance of the centres
            (https://arxiv.org/abs/1911.08287); "linear" multiplies its score by 1 - IoU above
            `iou_threshold`, "gaussian" by exp(-IoU^2 / sigma)
            (https://arxiv.org/abs/1704.04503).
        mode: "per_class": only boxes of the same class compete; "global": all do.
        iou_threshold: None = 0.5 (hard, diou), 0.3 (linear).
        score_threshold: scores must be greater. None = 0 (hard, diou), 0.001 (linear, gaussian).
        sigma: None = 0.5. This is the paper's; TensorFlow's `soft_nms_sigma` is half of it.
        max_candidates: (anchor, class) pairs that take part, by score; 0 = the best class of
            every anchor.
        max_detections: most detections per image.
        inclusive_pixels: count right and bottom pixels in (width = right - left + 1), as the NumPy
            variants of EfficientDet do.
        per_level: `max_candidates` counts for each level of the pyramid alone (FCOS, RetinaNet).
        class_threshold: with `per_level`, a pair takes part if its class is more probable.
        clips_first: clip boxes to the image before they compete instead of after.

    The defaults are EfficientDet's evaluation: gaussian, per class, on the best 5000 pairs. Its
    serving default is `mode="global", max_candidates=0`.
    """

    method: Method = "gaussian"
    mode: Mode = "per_class"
    iou_threshold: float | None = None
    score_threshold: float | None = None
    sigma: float | None = None
    max_candidates: int = 5000
    max_detections: int = 100
    inclusive_pixels: bool = False
    per_level: bool = False
    class_threshold: float = 0.0
    clips_first: bool = False

    def __post_init__(self):
        for key, known in (("method", get_args(Method)), ("mode", get_args(Mode))):
            if getattr(self, key) not in known:
                raise UserError(f"expected an NMS {key} of {known}, got {getattr(self, key)!r}")
        for key in ("iou_threshold", "sigma"):
            if getattr(self, key) is not None and key not in _DEFAULTS[self.method]:
                raise UserError(
                    f"NMS method {self.method!r} has no {key}, got {getattr(self, key)}; "
                    "leave it out or choose another method"
                )
        if self.score_threshold is not None and self.score_threshold < 0:
            raise UserError(f"expected score_threshold >= 0, got {self.score_threshold}")
        if self.iou_threshold is not None and not 0 <= self.iou_threshold <= 1:
            raise UserError(f"expected iou_threshold between 0 and 1, got {self.iou_threshold}")
        if self.sigma is not None and self.sigma <= 0:
            raise UserError(f"expected sigma > 0, got {self.sigma}")
        if self.per_level and self.max_candidates == 0:
            raise UserError("NMS with per_level needs max_candidates of at least 1, got 0")
        if self.class_threshold and not self.per_level:
            raise UserError("NMS has a class_threshold with per_level only; use score_threshold")
        if self.max_candidates < 0 or self.max_detections < 1:
            raise UserError(
                "expected max_candidates >= 0 and max_detections >= 1, got "
                f"{self.max_candidates} and {self.max_detections}"
            )

    def value(self, key: str) -> float:
        """A threshold, or the method's published one where it is None."""
        given = getattr(self, key)
        return _DEFAULTS[self.method][key] if given is None else given


def non_max_suppression(boxes_xyxy, scores, labels, config: NMSConfig):
    """Picks the best detections of every image, greedily by score.

    Args:
        boxes_xyxy: [B, N, 4] float32.
        scores: [B, N] float32 >= 0.
        labels: [B, N] int32.
        config: method and limits.

    Returns:
        (index [B, M] int32 into N, score [B, M] float32 after softening, count [B] int32), M =
        `max_detections`, scores descending; rows from `count` on have index 0 and score 0. Equal
        scores keep the order of the input. Candidates with a coordinate or score that is not
        finite are never picked.

    All images advance together, one detection per turn; the loop ends when no image has a
    candidate above the threshold. Comparing labels keeps classes apart exactly, where shifting
    boxes by class would round their coordinates.
    """
    border = 1.0 if config.inclusive_pixels else 0.0
    threshold = config.value("score_threshold")
    is_usable = ops.all(ops.isfinite(boxes_xyxy), axis=-1) & ops.isfinite(scores)
    candidates = box_ops.sides(ops.where(is_usable[..., None], boxes_xyxy, 0.0), border)  # [B, N]
    table = ops.stack([*candidates, ops.cast(labels, "float32")], axis=-1)  # [B, N, 6]
    label_row = table[..., 5]
    order = ops.arange(boxes_xyxy.shape[1], dtype="int32")
    turns = ops.arange(config.max_detections, dtype="int32")

    def is_busy(turn, live, best, score, index, picked):
        return (turn < config.max_detections) & ops.any(score > threshold)

    def pick(turn, live, best, score, index, picked):
        is_turn = (turns == turn) & (score > threshold)  # [B, M]
        index, picked = ops.where(is_turn, best, index), ops.where(is_turn, score, picked)
        *chosen, label = ops.split(gather_rows(table, best)[:, 0], 6, axis=-1)  # [B, 1] each
        factor = _factor(candidates, box_ops.Sides(*chosen), config, border)
        if config.mode == "per_class":
            factor = ops.where(label_row == label, factor, 1.0)
        live = ops.where(order == best, 0.0, live * factor)
        return turn + 1, live, *_best(live), index, picked

    live = ops.where(is_usable, scores, 0.0)
    shape = (ops.shape(scores)[0], config.max_detections)
    start = (ops.zeros((), "int32"), live, *_best(live), ops.zeros(shape, "int32"))
    *_, index, picked = ops.while_loop(is_busy, pick, (*start, ops.zeros(shape, "float32")))
    return index, picked, ops.sum(ops.cast(picked > 0, "int32"), axis=1)


def survivors(boxes_xyxy, is_candidate, iou_threshold: float):
    """Which boxes greedy hard suppression leaves, all at once: for thousands of proposals.

    A box falls if a better one that stands overlaps it by more than `iou_threshold`. The rule is
    applied to all boxes together until nothing changes: as many times as the longest chain of
    boxes that decide on each other, where `non_max_suppression` takes a turn per box that stays.

    Args:
        boxes_xyxy: [B, N, 4] float32, best first.
        is_candidate: [B, N] bool; others neither stand nor suppress.
        iou_threshold: largest overlap of two that stay.

    Returns:
        [B, N] bool. Memory is N * N numbers per image.
    """
    rank = ops.arange(boxes_xyxy.shape[1], dtype="int32")
    is_candidate &= ops.all(ops.isfinite(boxes_xyxy), axis=-1)
    boxes = ops.where(is_candidate[..., None], boxes_xyxy, 0.0)
    beats = (box_ops.iou(boxes, boxes) > iou_threshold) & (rank[:, None] < rank)  # [B, N, N]
    beats = ops.cast(beats & is_candidate[:, :, None], "float32")

    def settle(standing, _):
        beaten = ops.matmul(ops.cast(standing, "float32")[:, None], beats)[:, 0]
        settled = is_candidate & (beaten < 0.5)
        return settled, ops.any(settled != standing)

    start = (is_candidate, ops.ones((), "bool"))
    return ops.while_loop(lambda _, changed: changed, settle, start)[0]


def _best(live):
    """Index and score of the best candidate of each image, [B, 1] each."""
    # top_k, since Keras's argmax spends four more passes on negative zeros.
    score, index = ops.top_k(live, 1)
    return ops.cast(index, "int32"), score


def _factor(candidates, chosen, config: NMSConfig, border: float):
    """What the scores of `candidates` [B, N] are multiplied by because of `chosen` [B, 1]."""
    overlap = box_ops.overlap(candidates, chosen, border)
    if config.method == "gaussian":
        return ops.exp(ops.square(overlap) * (-1.0 / config.value("sigma")))
    threshold = config.value("iou_threshold")
    if config.method == "linear":
        return ops.where(overlap > threshold, 1.0 - overlap, 1.0)
    if config.method == "diou":
        overlap -= _relative_distance(candidates, chosen, border)
    return ops.where(overlap > threshold, 0.0, 1.0)


def _relative_distance(a, b, border: float):
    """Squared distance of the centres over the squared diagonal of the enclosing box."""
    x = (a.left + a.right - b.left - b.right) * 0.5
    y = (a.top + a.bottom - b.top - b.bottom) * 0.5
    width = ops.maximum(a.right, b.right) - ops.minimum(a.left, b.left) + border
    height = ops.maximum(a.bottom, b.bottom) - ops.minimum(a.top, b.top) + border
    diagonal = ops.square(width) + ops.square(height)
    return (ops.square(x) + ops.square(y)) / ops.maximum(diagonal, 1e-8)
