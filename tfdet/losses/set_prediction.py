"""Matching and losses of detectors that predict a set of objects (DETR), one query per object.

https://arxiv.org/abs/2005.12872
"""

import dataclasses
import math
from typing import NamedTuple

import keras
from keras import ops

from tfdet.errors import UserError
from tfdet.losses import replicas
from tfdet.losses.assignment import is_learnable
from tfdet.losses.box import iou_loss
from tfdet.ops.gather import gather_rows
from tfdet.tensors import Tensor

NO_MATCH = -1

# Costs stay within this bound, also those of predictions that are not finite. The published ones
# are between -3 and 23.
_MOST = 1e4


@dataclasses.dataclass(frozen=True)
class SetLossConfig:
    """Matching and losses; the defaults are DETR's published ones.

    Attributes:
        class_cost, box_cost, giou_cost: what a pair of query and object costs in the matching: the
            sum of these times minus the probability of the object's class, the L1 distance of the
            boxes, and minus their GIoU.
        class_weight, box_weight, giou_weight: factors of the loss terms.
        no_object_weight: weight of a query without an object in the class loss ("eos_coef").
        auxiliary: the predictions of all decoder layers are trained, not those of the last alone.
        skip_crowd: leave out boxes that stand for a crowd.
    """

    class_cost: float = 1.0
    box_cost: float = 5.0
    giou_cost: float = 2.0
    class_weight: float = 1.0
    box_weight: float = 5.0
    giou_weight: float = 2.0
    no_object_weight: float = 0.1
    auxiliary: bool = True
    skip_crowd: bool = True

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise UserError(f"loss.{field.name} must be at least 0, got {value}")
        if not self.no_object_weight > 0:
            raise UserError("loss.no_object_weight must be above 0, got 0")


class Objects(NamedTuple):
    """The M objects of each image.

    Attributes:
        boxes: [B, M, 4] float32 cxcywh, relative to the image; where no object is known, some box.
        labels: [B, M] int32 in [0, C).
        is_known: [B, M] bool.
    """

    boxes: Tensor
    labels: Tensor
    is_known: Tensor


def relative_objects(
    targets: dict[str, Tensor], extents: Tensor, skip_crowd: bool = True
) -> Objects:
    """The objects of training targets, in the frame of what an image covers of its canvas.

    Args:
        targets: "boxes" [B, M, 4] xyxy pixels, "labels" [B, M] (-1 = padding) and, if
            `skip_crowd`, "is_crowd" [B, M] where there is one.
        extents: [B, 2] float32 (height, width) in pixels, from the top left corner.
    """
    is_crowd = targets.get("is_crowd") if skip_crowd else None
    is_known = is_learnable(targets["boxes"], targets["labels"], is_crowd)
    height, width = extents[:, 0, None, None], extents[:, 1, None, None]
    boxes = targets["boxes"] / ops.concatenate([width, height, width, height], axis=-1)
    boxes = ops.concatenate(
        [0.5 * (boxes[..., :2] + boxes[..., 2:]), boxes[..., 2:] - boxes[..., :2]], axis=-1
    )
    # Others are replaced before any arithmetic: a NaN born there would survive a later mask.
    boxes = ops.where(is_known[..., None], boxes, 0.5)
    return Objects(boxes, ops.where(is_known, ops.cast(targets["labels"], "int32"), 0), is_known)


def corners(boxes_cxcywh: Tensor) -> Tensor:
    """Boxes [..., 4] as xyxy."""
    centre, half = boxes_cxcywh[..., :2], 0.5 * boxes_cxcywh[..., 2:]
    return ops.concatenate([centre - half, centre + half], axis=-1)


def matching_cost(logits: Tensor, boxes: Tensor, objects: Objects, config: SetLossConfig) -> Tensor:
    """What each pair of object and query costs: [B, M, Q].

    Args:
        logits: [B, Q, C + 1] float32; no object is the last class.
        boxes: [B, Q, 4] float32 cxcywh.
        objects: M of each image.
        config: factors.
    """
    probability = ops.swapaxes(ops.softmax(logits), 1, 2)  # [B, C + 1, Q]
    class_cost = -gather_rows(probability, objects.labels)
    guessed, wanted = boxes[:, None], objects.boxes[:, :, None]
    box_cost = ops.sum(ops.abs(guessed - wanted), axis=-1)
    giou_cost = iou_loss(corners(guessed), corners(wanted), "giou") - 1.0
    return (
        config.class_cost * class_cost + config.box_cost * box_cost + config.giou_cost * giou_cost
    )


def match(cost: Tensor, is_known: Tensor) -> Tensor:
    """The object of each query, [B, Q] int32, or `NO_MATCH`: the pairs with the least total cost.

    min(Q, n) pairs of an image with n known objects. Exact: the Hungarian method, where objects
    that want a query of their own take it at once, and each other one the shortest path to a free
    query, for all images at the same time.

    Args:
        cost: [B, M, Q]; what is not finite is more than anything else.
        is_known: [B, M] bool; other objects take nothing.
    """
    objects, queries = cost.shape[1:]
    # Sums of differences; JAX has float32 only.
    precision = "float64" if keras.backend.backend() == "tensorflow" else "float32"
    cost = ops.clip(ops.nan_to_num(ops.cast(cost, precision), nan=_MOST), -_MOST, _MOST)
    # Columns for objects without a query, more expensive than any query, and one where paths begin.
    spare = max(objects - queries, 0)
    above = ops.max(cost, axis=(1, 2), keepdims=True, initial=0.0) + 1.0
    cost = ops.pad(cost, ((0, 0), (0, 0), (0, spare + 1)))
    cost = ops.where(ops.arange(queries + spare + 1) < queries, cost, above)
    state = _first_pairs(cost, is_known)
    is_left = is_known & ~ops.any(
        state.owner[:, None] == ops.arange(objects, dtype="int32")[:, None], axis=-1
    )
    # Objects that are left, in their order, before the others.
    left = ops.argsort(ops.cast(~is_left, "int32") * objects + ops.arange(objects, dtype="int32"))
    counts = ops.sum(ops.cast(is_left, "int32"), axis=-1)

    def step(turn: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        row = ops.cast(ops.take(left, turn, axis=1), "int32")
        return turn + 1, *_with_row(cost, _Pairs(*state), ops.where(turn < counts, row, NO_MATCH))

    turns = ops.max(counts, initial=0)
    start = (ops.zeros((), "int32"), *state)
    owner = ops.while_loop(lambda turn, *_: turn < turns, step, start)[1]
    return owner[:, :queries]


class _Pairs(NamedTuple):
    """The pairs so far and their dual values; K columns are queries, spare ones and the start.

    Attributes:
        owner: [B, K] int32, the object of each column, or `NO_MATCH`.
        owner_price: [B, K], the dual value of that object.
        price: [B, K], the dual value of the column.
    """

    owner: Tensor
    owner_price: Tensor
    price: Tensor


def _first_pairs(cost: Tensor, is_known: Tensor) -> _Pairs:
    """Each column goes to the first object that finds it the cheapest of all."""
    least = ops.min(cost, axis=-1, initial=math.inf)  # without `initial` no batch may be empty
    best = ops.cast(ops.argmin(cost, axis=-1), "int32")
    columns = ops.arange(cost.shape[-1], dtype="int32")
    wants = is_known[..., None] & (best[..., None] == columns)  # [B, M, K]
    is_wanted = ops.any(wants, axis=1)
    first = ops.cast(ops.argmax(ops.cast(wants, "int32"), axis=1), "int32")
    return _Pairs(
        ops.where(is_wanted, first, NO_MATCH),
        ops.where(is_wanted, gather_rows(least, first), 0.0),
        ops.zeros_like(cost[:, 0]),
    )


def _with_row(cost: Tensor, pairs: _Pairs, row: Tensor) -> _Pairs:
    """The best pairs with one more object of each image, `row` [B]; `NO_MATCH` adds none."""
    objects, width = cost.shape[1:]
    columns = ops.arange(width, dtype="int32")
    start = width - 1
    owner = ops.where(columns == start, row[:, None], pairs.owner)
    owner_price = ops.where(columns == start, 0.0, pairs.owner_price)
    images = ops.arange(ops.shape(cost)[0], dtype="int32")
    rows = ops.reshape(cost, (-1, width))

    def at(values: Tensor, column: Tensor) -> Tensor:
        return ops.take(ops.reshape(values, (-1,)), images * width + column)

    def search(column, holder, is_seen, slack, before, owner_price, price):
        """Takes in the nearest column that no cheapest path has reached yet."""
        is_open = (holder != NO_MATCH)[:, None]
        is_seen = is_seen | (is_open & (columns == column[:, None]))
        reduced = ops.take(rows, images * objects + ops.maximum(holder, 0), axis=0) - price
        reduced = reduced - at(owner_price, column)[:, None]
        is_better = is_open & ~is_seen & (reduced < slack)
        slack = ops.where(is_better, reduced, slack)
        before = ops.where(is_better, column[:, None], before)
        unseen = ops.where(is_seen, math.inf, slack)
        step = ops.where(is_open, ops.min(unseen, axis=-1, keepdims=True, initial=math.inf), 0.0)
        owner_price = ops.where(is_seen, owner_price + step, owner_price)
        price = ops.where(is_seen, price - step, price)
        nearest = ops.cast(ops.argmin(unseen, axis=-1), "int32")
        column = ops.where(is_open[:, 0], nearest, column)
        holder = ops.where(is_open[:, 0], at(owner, column), NO_MATCH)
        return column, holder, is_seen, slack - step, before, owner_price, price

    begin = ops.zeros_like(row) + start
    nothing = ops.zeros_like(owner_price)
    column, _, _, _, before, owner_price, price = ops.while_loop(
        lambda _, holder, *rest: ops.any(holder != NO_MATCH),
        search,
        (
            *(begin, row, nothing > 0, nothing + math.inf),
            *(ops.zeros_like(owner), owner_price, pairs.price),
        ),
    )

    def give_back(column, owner, owner_price):
        """A column on the way takes the object of the one before it."""
        previous = at(before, column)
        is_here = (columns == column[:, None]) & (columns != start)
        owner = ops.where(is_here, at(owner, previous)[:, None], owner)
        owner_price = ops.where(is_here, at(owner_price, previous)[:, None], owner_price)
        return ops.where(column == start, start, previous), owner, owner_price

    _, owner, owner_price = ops.while_loop(
        lambda column, *_: ops.any(column != start), give_back, (column, owner, owner_price)
    )
    return _Pairs(owner, owner_price, price)


def set_loss_terms(
    targets: dict[str, Tensor], raw: dict[str, Tensor], config: SetLossConfig
) -> dict[str, Tensor]:
    """Weighted loss terms of a batch, each a float32 scalar: sums over the decoder layers.

    Each layer has a matching of its own.

    Args:
        targets: as in `relative_objects`.
        raw: "class_logits" [B, L, Q, C + 1] and "boxes" [B, L, Q, 4] cxcywh relative to
            "extents" [B, 2], see `relative_objects`; any float dtype.
        config: costs and weights.

    Returns:
        "class_loss", the cross-entropy of all queries, a weighted mean over the batch; "box_loss"
        (L1) and "giou_loss" of the matched queries, over the number of objects (at least 1). The
        batch is that of all replicas; the published code has a mean of its own on each of them.
    """
    logits, boxes = (ops.cast(raw[name], "float32") for name in ("class_logits", "boxes"))
    if not config.auxiliary:
        logits, boxes = logits[:, -1:], boxes[:, -1:]
    layers, queries, classes = logits.shape[1:]
    objects = relative_objects(targets, raw["extents"], config.skip_crowd)
    count = replicas.sum_over_replicas(ops.sum(ops.cast(objects.is_known, "float32")))
    objects = Objects(*(ops.repeat(x, layers, axis=0) for x in objects))
    logits = ops.reshape(logits, (-1, queries, classes))
    boxes = ops.reshape(boxes, (-1, queries, 4))
    cost = matching_cost(*map(ops.stop_gradient, (logits, boxes)), objects, config)
    matched = match(cost, objects.is_known)
    is_matched, matched = matched != NO_MATCH, ops.maximum(matched, 0)

    labels = ops.where(is_matched, gather_rows(objects.labels, matched), classes - 1)
    log_chance = ops.take_along_axis(ops.log_softmax(logits), labels[..., None], axis=-1)[..., 0]
    weights = ops.where(is_matched, 1.0, config.no_object_weight)
    # All layers match as many queries, so that the weights of one are a part of all.
    total_weight = replicas.sum_over_replicas(ops.sum(weights) / layers)

    wanted = ops.where(is_matched[..., None], gather_rows(objects.boxes, matched), 0.5)
    found = ops.where(is_matched[..., None], boxes, 0.5)
    count = ops.maximum(count, 1.0)
    giou_loss = ops.sum(iou_loss(corners(found), corners(wanted), "giou"))
    return {
        "class_loss": config.class_weight * -ops.sum(weights * log_chance) / total_weight,
        "box_loss": config.box_weight * ops.sum(ops.abs(found - wanted)) / count,
        "giou_loss": config.giou_weight * giou_loss / count,
    }
