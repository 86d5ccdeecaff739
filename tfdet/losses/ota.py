"""The loss of YOLOv7: https://arxiv.org/abs/2207.02696."""

import dataclasses
import math
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from keras import ops

from tfdet.errors import UserError
from tfdet.losses import replicas
from tfdet.losses.assignment import is_learnable, without_padding
from tfdet.losses.box import iou_loss
from tfdet.losses.ota_candidates import CELLS_PER_OBJECT, Candidates, find_candidates
from tfdet.losses.ota_matching import NO_MATCH, Guesses, match
from tfdet.losses.shared import answered_once
from tfdet.ops import anchor_grid
from tfdet.ops.anchor_grid import AnchorGrid
from tfdet.ops.gather import gather_rows
from tfdet.tensors import Tensor

Matching = Literal["dynamic", "all"]

# Weights of the levels' objectness by the number of levels, finest first.
_BALANCES = {3: (4.0, 1.0, 0.4), 4: (4.0, 1.0, 0.25, 0.06)}
# How near a neighbouring cell must be to an object's centre to learn it, in cells.
_REACH = 0.5
_AUXILIARY_REACH = 1.0

_TERMS = ("box_loss", "object_loss", "class_loss")


@dataclasses.dataclass(frozen=True)
class OtaLossConfig:
    """Assignment and weights; the defaults are YOLOv7's published ones.

    Attributes:
        box_gain, object_gain, class_gain: weights of the terms.
        rescale_gains: adapt them to levels, classes and image size; see `gains`.
        anchor_threshold: anchors whose sides differ by this factor or more cannot learn an object.
        matching: "dynamic" (SimOTA), or "all": every candidate learns the object that it was made
            for. Published validation losses are those of "all".
        top_k: largest number of predictions for an object; 20 where auxiliary heads are trained.
        iou_cost: weight of the IoU in the cost of the assignment.
        balance: weights of the levels' objectness, finest first; () for the published ones.
        label_smoothing: classes aim at `y * (1 - s) + s / 2`.
        auxiliary_weight: of the losses of auxiliary heads.
        skip_crowd: leave out boxes that stand for a crowd; False learns them as one object.
    """

    box_gain: float = 0.05
    object_gain: float = 0.7
    class_gain: float = 0.3
    rescale_gains: bool = True
    anchor_threshold: float = 4.0
    matching: Matching = "dynamic"
    top_k: int = 10
    iou_cost: float = 3.0
    balance: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.25
    skip_crowd: bool = True

    def __post_init__(self):
        object.__setattr__(self, "balance", tuple(self.balance))
        if self.matching not in get_args(Matching):
            raise UserError(f"expected matching of {get_args(Matching)}, got {self.matching!r}")
        if self.anchor_threshold <= 1 or self.top_k < 1:
            raise UserError(
                "expected anchor_threshold > 1 and top_k >= 1, got "
                f"{self.anchor_threshold} and {self.top_k}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"expected 0 <= label_smoothing < 1, got {self.label_smoothing}")
        names = ("box_gain", "object_gain", "class_gain", "iou_cost", "auxiliary_weight")
        for name in names:
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"expected {name} >= 0, got {getattr(self, name)}")
        if not all(0 <= weight < math.inf for weight in self.balance):
            raise UserError(f"expected balance weights >= 0, got {self.balance}")


def gains(
    config: OtaLossConfig, grid: AnchorGrid, image_size: tuple[int, int], num_classes: int
) -> tuple[float, float, float]:
    """Weights of box, object and class loss.

    With `config.rescale_gains` all are multiplied by 3 / levels, the object's by the image's area
    in units of 640 x 640 too, and the class's by classes / 80.
    """
    if not config.rescale_gains:
        return config.box_gain, config.object_gain, config.class_gain
    share = 3.0 / grid.num_levels
    area = image_size[0] * image_size[1] / 640**2
    return (
        config.box_gain * share,
        config.object_gain * share * area,
        config.class_gain * share * num_classes / 80,
    )


def ota_loss_terms(
    targets: dict[str, Tensor],
    raw: dict[str, Tensor],
    grid: AnchorGrid,
    image_size: tuple[int, int],
    config: OtaLossConfig,
    aux_raw: dict[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Weighted loss terms of a batch, each a float32 scalar.

    Args:
        targets: "boxes" [B, M, 4] xyxy pixels, "labels" [B, M] (-1 = padding) and, if
            `config.skip_crowd`, "is_crowd" [B, M] where there is one.
        raw: "box_codes" [B, K, 4], "object_logits" [B, K] and "class_logits" [B, K, C], any float
            dtype; rows as in `ops.anchor_grid.rows`.
        grid: cells and anchors of the K rows.
        image_size: (height, width).
        config: of assignment and weights.
        aux_raw: what the auxiliary heads predict, in the form of `raw`.

    Returns:
        "box_loss" and "class_loss", means over the matches of each level, summed over the levels;
        "object_loss", a weighted mean over the predictions. All are multiplied by the number of
        images, so that they are sums over images. Images and matches are those of all replicas.
    """
    images = replicas.sum_over_replicas(ops.cast(ops.shape(raw["box_codes"])[0], "float32"))
    weights = gains(config, grid, image_size, raw["class_logits"].shape[-1])

    def terms(sums: _Sums) -> list[Any]:
        matches = ops.maximum(replicas.sum_over_replicas(ops.sum(sums.matches, axis=0)), 1.0)
        means = (
            images * ops.sum(ops.sum(sums.boxes, axis=0) / matches),
            ops.sum(sums.objects),
            images * ops.sum(ops.sum(sums.classes, axis=0) / matches),
        )
        return [weight * mean for weight, mean in zip(weights, means, strict=True)]

    result = terms(_sums(targets, raw, raw, grid, image_size, config, _REACH))
    if aux_raw is not None:
        sums = _sums(targets, raw, aux_raw, grid, image_size, config, _AUXILIARY_REACH)
        weight = config.auxiliary_weight
        result = [a + weight * b for a, b in zip(result, terms(sums), strict=True)]
    return dict(zip(_TERMS, result, strict=True))


def ota_losses_per_image(
    targets: dict[str, Tensor],
    raw: dict[str, Tensor],
    grid: AnchorGrid,
    image_size: tuple[int, int],
    config: OtaLossConfig,
) -> Any:
    """The loss of each image as if it were alone, [B] float32; arguments as `ota_loss_terms`."""
    sums = _sums(targets, raw, raw, grid, image_size, config, _REACH)
    matches = ops.maximum(sums.matches, 1.0)
    means = (
        ops.sum(sums.boxes / matches, axis=-1),
        sums.objects,
        ops.sum(sums.classes / matches, axis=-1),
    )
    weights = gains(config, grid, image_size, raw["class_logits"].shape[-1])
    return sum(weight * mean for weight, mean in zip(weights, means, strict=True))


class _Sums(NamedTuple):
    """Losses of each image, before gains and before they are divided by the matches.

    Attributes:
        boxes, classes: [B, L] sums over the matches of each level.
        matches: [B, L] how many there are.
        objects: [B] weighted mean over all predictions.
    """

    boxes: Any
    objects: Any
    classes: Any
    matches: Any


def _sums(
    targets: dict[str, Tensor],
    judged: dict[str, Tensor],
    raw: dict[str, Tensor],
    grid: AnchorGrid,
    image_size: tuple[int, int],
    config: OtaLossConfig,
    reach: float,
) -> _Sums:
    """The losses of `raw`, matched by what `judged` predicts."""
    is_crowd = targets.get("is_crowd") if config.skip_crowd else None
    boxes, labels, is_known, found = _objects(
        targets["boxes"], targets["labels"], is_crowd, grid, image_size, config, reach
    )
    if config.matching == "dynamic":
        guesses = _guesses(judged, found)
        matched = match(guesses, boxes, labels, is_known, config.top_k, config.iou_cost)
    else:
        matched = ops.where(found.is_valid, found.owner, NO_MATCH)
    is_matched = matched != NO_MATCH
    matched = ops.maximum(matched, 0)

    codes, logits = (_at(found, raw[name]) for name in ("box_codes", "class_logits"))
    box_losses = _box_losses(codes, gather_rows(boxes, matched), is_matched, found)
    class_losses = _class_losses(logits, gather_rows(labels, matched), config.label_smoothing)
    overlaps = ops.stop_gradient(ops.maximum(1.0 - box_losses, 0.0))
    weights = _object_weights(grid, image_size, config.balance)
    counted = ops.cast(is_matched, "float32")

    def of_levels(values):
        shape = (ops.shape(counted)[0], grid.num_levels, -1)
        return ops.sum(ops.reshape(counted * values, shape), axis=-1)

    return _Sums(
        boxes=of_levels(box_losses),
        objects=_object_losses(raw["object_logits"], weights, found, is_matched, overlaps),
        classes=of_levels(class_losses),
        matches=of_levels(1.0),
    )


@answered_once
def _objects(
    boxes,
    labels,
    is_crowd,
    grid: AnchorGrid,
    image_size: tuple[int, int],
    config: OtaLossConfig,
    reach: float,
) -> tuple[Any, Any, Any, Candidates]:
    """Boxes [B, m, 4] and labels [B, m] up to the last object, which are known, and candidates."""
    boxes, labels = ops.cast(boxes, "float32"), ops.cast(labels, "int32")
    is_known = is_learnable(boxes, labels, is_crowd)
    least = math.ceil(config.top_k / (grid.num_levels * CELLS_PER_OBJECT * grid.anchors_per_cell))
    boxes, labels, is_known = without_padding(boxes, labels, is_known, least)
    boxes, labels = ops.where(is_known[..., None], boxes, 0.0), ops.where(is_known, labels, 0)
    found = find_candidates(boxes, is_known, grid, image_size, config.anchor_threshold, reach)
    return boxes, labels, is_known, found


def _at(found: Candidates, values):
    """What the candidates predict: rows of [B, K, ...] as float32 [B, N, ...]."""
    return ops.cast(gather_rows(values, found.row), "float32")


def _guesses(raw: dict[str, Tensor], found: Candidates) -> Guesses:
    x, y, width, height = anchor_grid.decode_cells(
        _at(found, raw["box_codes"]),
        found.cell_x,
        found.cell_y,
        found.anchor_width,
        found.anchor_height,
    )
    boxes = _corners(x, y, width, height) * found.stride[:, None]
    return Guesses(
        found.is_valid, boxes, _at(found, raw["object_logits"]), _at(found, raw["class_logits"])
    )


def _corners(x, y, width, height):
    """Boxes [..., 4] xyxy of centres and sizes."""
    half_width, half_height = width * 0.5, height * 0.5
    return ops.stack([x - half_width, y - half_height, x + half_width, y + half_height], axis=-1)


def _box_losses(codes, boxes, is_matched, found: Candidates):
    """1 - CIoU of each candidate with its object's box [B, N, 4]; finite where none is matched.

    In cells, counted from the candidate's own: far from the origin, pixels have fewer digits.
    """
    origin = ops.stack([found.cell_x, found.cell_y] * 2, axis=-1)
    wanted = boxes / found.stride[:, None] - origin
    # Placeholders are replaced before the arithmetic: a NaN born there would survive a later mask.
    wanted = ops.where(is_matched[..., None], wanted, np.float32([0, 0, 1, 1]))
    codes = ops.where(is_matched[..., None], codes, 0.0)
    shape = anchor_grid.decode_cells(codes, 0.0, 0.0, found.anchor_width, found.anchor_height)
    return iou_loss(_corners(*shape), wanted, "ciou")


def _class_losses(logits, labels, label_smoothing: float):
    """Mean cross-entropy of each candidate's classes, [B, N]."""
    classes = logits.shape[-1]
    chosen = ops.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    aim = 0.5 * label_smoothing
    losses = ops.sum(ops.softplus(logits) - aim * logits, axis=-1)
    return (losses - (1.0 - label_smoothing) * chosen) / classes


def _object_losses(logits, weights: np.ndarray, found: Candidates, is_matched, overlaps):
    """Weighted cross-entropy of all objectness logits [B, K]: [B].

    The target is 0 but at matches, where it is the overlap of the box with its object. Where a
    prediction is matched more than once, the last of its candidates counts.
    """
    logits = ops.cast(logits, "float32")
    batch, rows = ops.shape(logits)[0], logits.shape[1]
    candidates = ops.shape(is_matched)[1]
    place = ops.reshape(found.row + rows * ops.arange(batch, dtype="int32")[:, None], (-1,))
    # Numbers are float32, which counts to 2^24: this maximum has such a kernel on every device.
    number = ops.where(is_matched, ops.arange(1, candidates + 1, dtype="float32"), 0.0)
    last = ops.segment_max(ops.reshape(number, (-1,)), place, num_segments=batch * rows)
    is_last = is_matched & (number == ops.reshape(ops.take(last, place), (-1, candidates)))
    at_candidates = gather_rows(weights * logits, found.row)
    aims = ops.sum(ops.where(is_last, overlaps, 0.0) * at_candidates, axis=-1)
    # A router's step has to know that it is one number an image, which candidates do not tell it.
    return ops.sum(weights * ops.softplus(logits), axis=-1) - ops.reshape(aims, (batch,))


def _object_weights(
    grid: AnchorGrid, image_size: tuple[int, int], balance: tuple[float, ...]
) -> np.ndarray:
    """Each prediction's weight in the mean objectness loss, [K] float32."""
    balance = balance or _BALANCES.get(grid.num_levels, ())
    if len(balance) != grid.num_levels:
        raise UserError(
            f"expected balance with a weight for each of {grid.num_levels} levels, got {balance}"
        )
    counts = anchor_grid.row_counts(grid, image_size)
    weights = [weight / count for weight, count in zip(balance, counts, strict=True)]
    return np.repeat(weights, counts).astype(np.float32)
