"""How much each image may cost a CADDet, and what it pays for more: arXiv 2012.04265, section 3.3.

Costs are parts of the cost of the whole grid, see `detectors.grid_cost.GridCost`.
"""

import dataclasses
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from tfdet.errors import UserError
from tfdet.losses import replicas
from tfdet.losses.assignment import is_learnable
from tfdet.ops import boxes as box_ops
from tfdet.tensors import Tensor

# In pixels of images whose shorter side has 600 or, with the same edges, 800.
_PUBLISHED_EDGES = (64.0, 150.0, 360.0)
_PUBLISHED_SIDE = 600


@dataclasses.dataclass(frozen=True)
class RoutingLossConfig:
    """What the routers are trained towards; the defaults are CADDet's best.

    Attributes:
        strategy: "scale_aware": the budget of an image grows with the number of intervals that the
            sizes of its objects are in. "loss_aware": with the rank of its detection loss among
            those of the images before it. "fixed": all images have the same.
        budget: the smallest budget C_0 (the only one of "fixed"), as a part of the whole cost.
        whole: that whole: the "grid", as in Dynamic Routing, or the "network" without its head.
        unit: what costs are measured in where their distance is squared: 0: the whole; otherwise
            so many multiply-adds.
        scale_edges: between the intervals of sizes, in pixels: the longer side of a box. An edge
            belongs to the interval before it. Empty: the published 64, 150 and 360; in proportion
            to the shorter side of the batch's images where that is below 600.
        scale_frame: the pixels are those of the "batch", after augmentation, or of the "file".
        least_intervals: what an image without objects counts as.
        printed_form: the scale-aware budget as equation 3 has it, divided by the number of
            intervals; the published tables have budgets from C_0 up.
        buffer: how many losses the loss-aware strategy remembers, the last ones.
        global_weight: factor of the squared distance between soft cost and budget.
        local_weight: factor of the loss of path similarity, see `path_similarity_loss`.
        similarity_min, similarity_max: wanted for images without and with equal scale codes.
        pairs: the images that are compared: those of the whole "batch", or of one "replica" as
            where every device trains by itself.
        free_epochs: epochs at the start without both losses.
    """

    strategy: Literal["scale_aware", "loss_aware", "fixed"] = "scale_aware"
    budget: float = 0.05
    whole: Literal["grid", "network"] = "grid"
    unit: float = 0.0
    scale_edges: tuple[float, ...] = ()
    scale_frame: Literal["batch", "file"] = "batch"
    least_intervals: float = 1.0
    printed_form: bool = False
    buffer: int = 100
    global_weight: float = 1.0
    local_weight: float = 1.0
    similarity_min: float = 0.6
    similarity_max: float = 0.95
    pairs: Literal["batch", "replica"] = "batch"
    free_epochs: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.budget <= 1:
            raise UserError(f"routing_loss.budget must be in (0, 1], got {self.budget}")
        if (
            list(self.scale_edges) != sorted(set(self.scale_edges))
            or min(self.scale_edges, default=1) <= 0
        ):
            raise UserError(
                f"routing_loss.scale_edges must be positive and rising, got {self.scale_edges}"
            )
        if not 0 <= self.similarity_min <= self.similarity_max <= 1:
            raise UserError(
                "expected 0 <= routing_loss.similarity_min <= similarity_max <= 1, got "
                f"{self.similarity_min} and {self.similarity_max}"
            )
        if self.buffer < 1:
            raise UserError(f"routing_loss.buffer must be at least 1, got {self.buffer}")
        for name in ("global_weight", "local_weight", "free_epochs", "unit", "least_intervals"):
            if getattr(self, name) < 0:
                raise UserError(
                    f"routing_loss.{name} must be at least 0, got {getattr(self, name)}"
                )

    @property
    def intervals(self) -> int:
        """How many intervals of sizes there are."""
        return len(self.scale_edges or _PUBLISHED_EDGES) + 1

    def edges_for(self, image_size: tuple[int, int]) -> tuple[float, ...]:
        """The edges for images of a size (height, width)."""
        if self.scale_edges:
            return self.scale_edges
        is_own = self.scale_frame == "file"
        share = 1.0 if is_own else min(1.0, min(image_size) / _PUBLISHED_SIDE)
        return tuple(share * edge for edge in _PUBLISHED_EDGES)


def scale_code(
    targets: dict[str, Tensor], config: RoutingLossConfig, image_size: tuple[int, int]
) -> Any:
    """[B, intervals] float32: 1 where an image has an object whose size is in the interval.

    Args:
        targets: "boxes" [B, M, 4] xyxy pixels, "labels" [B, M] (-1 = padding) and "is_crowd"
            [B, M] where there is one; crowds do not count. For the frame "file" also "scale" [B],
            pixels of the batch per pixel of the file.
        config: the edges, and what they are measured in.
        image_size: (height, width) of the batch's images.
    """
    boxes, labels = targets["boxes"], targets["labels"]
    is_object = is_learnable(boxes, labels, targets.get("is_crowd"))
    boxes = ops.where(is_object[..., None], ops.cast(boxes, "float32"), 0.0)
    left, top, right, bottom = box_ops.columns(boxes)
    longer = ops.maximum(right - left, bottom - top)
    if config.scale_frame == "file":
        if "scale" not in targets:
            raise UserError(
                "routing_loss.scale_frame=file needs targets['scale'], the pixels of the batch's "
                "image per pixel of the file, which tfdet's own pipeline provides"
            )
        longer = longer / ops.cast(targets["scale"], "float32")[:, None]
    edges = np.array([0.0, *config.edges_for(image_size), np.inf], np.float32)
    longer = longer[..., None]
    is_in = is_object[..., None] & (longer > edges[:-1]) & (longer <= edges[1:])
    return ops.cast(ops.any(is_in, axis=1), "float32")


def scale_budget(codes: Tensor, config: RoutingLossConfig) -> Any:
    """[B] budgets from scale codes [B, intervals]."""
    count = ops.sum(codes, axis=-1)
    count = ops.where(count > 0, count, config.least_intervals)
    return config.budget * (count / config.intervals if config.printed_form else count)


def ranked_budget(rank: Any, config: RoutingLossConfig) -> Any:
    """[B] budgets from ranks [B] in 0..1: from C_0 to C_0 times the number of intervals."""
    return config.budget * (1.0 + (config.intervals - 1) * rank)


def global_loss(soft_cost: Any, budget: Tensor, whole: float = 1.0) -> Any:
    """The mean over the global batch of the squared distance, a replica's share; float32 scalar.

    Args:
        soft_cost: [B], in parts of the whole.
        budget: [B], likewise; no gradient goes through it.
        whole: in the unit that distances are measured in.
    """
    squares = ops.square(whole * (soft_cost - ops.stop_gradient(budget)))
    images = replicas.sum_over_replicas(ops.cast(ops.shape(squares)[0], "float32"))
    return ops.sum(squares) / images


class LossBuffer:
    """The losses of the images seen last, first in, first out; ranks those of new ones.

    Its variables are neither weights nor metrics: they belong to the state of a run.

    Args:
        size: how many losses there are at most.
    """

    def __init__(self, size: int):
        self._size = size
        self._losses = replicas.common_variable("buffered_losses", (size,), "float32")
        self._count = replicas.common_variable("buffered_count", (), "int32")

    @property
    def variables(self) -> list[keras.Variable]:
        return [self._losses, self._count]

    def rank(self, losses: Tensor) -> Any:
        """[B] the part of the remembered losses that is smaller; 0.5 while there are none."""
        kept, count = map(ops.convert_to_tensor, self.variables)
        is_kept = ops.arange(self._size, dtype="int32") >= self._size - count  # the last ones
        is_smaller = is_kept & (kept < ops.stop_gradient(losses)[:, None])
        smaller = ops.sum(ops.cast(is_smaller, "float32"), axis=1)
        some = ops.cast(ops.maximum(count, 1), "float32")
        return ops.where(count > 0, smaller / some, 0.5)

    def push(self, losses: Tensor) -> None:
        """Remembers losses [B]; on several replicas those of all of them, in their order."""
        everyone, _ = replicas.gather_over_replicas(ops.stop_gradient(losses))
        kept, count = map(ops.convert_to_tensor, self.variables)
        self._losses.assign(ops.concatenate([kept, everyone])[-self._size :])
        self._count.assign(ops.minimum(count + ops.shape(everyone)[0], self._size))
