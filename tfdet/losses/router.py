"""The loss that teaches a router, and the offset that it is balanced by.

Paper: https://arxiv.org/abs/2304.05552, section 3.4.
"""

import dataclasses
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from tfdet.errors import UserError
from tfdet.losses import replicas
from tfdet.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class RouterLossConfig:
    """How the router is trained; the defaults are the reference's.

    Attributes:
        offset: what an image has to gain from the second detector to count as hard. "running": the
            median gain of all images that the run has seen so far, this one included. "full": that
            of one pass over the training set before the router is trained. "none": nothing, the
            paper's ablation.
        cost_weight: factor of the paper's other ablation, a term for the share of hard images.
        each_until: "running" takes the median again with every image up to this many,
        interval: and every so many after that.
        capacity: gains that are remembered, of the images seen last. The default holds two epochs
            of COCO, which are a whole run.
    """

    offset: Literal["running", "full", "none"] = "running"
    cost_weight: float = 0.0
    each_until: int = 10_000
    interval: int = 1_000
    capacity: int = 2**18

    def __post_init__(self) -> None:
        for name in ("each_until", "interval", "capacity"):
            if getattr(self, name) < 1:
                raise UserError(f"router_loss.{name} must be at least 1, got {getattr(self, name)}")
        if self.cost_weight < 0:
            raise UserError(f"router_loss.cost_weight must be at least 0, got {self.cost_weight}")


def router_loss(
    easiness: Tensor, first: Tensor, second: Tensor, offset: Tensor, cost_weight: float = 0.0
):
    """Sum over the images of what their routing costs, a float32 scalar.

    r * (l1 - offset / 2) + (1 - r) * (l2 + offset / 2): where the second detector gains more than
    the offset, l1 - l2 > offset, the easiness r falls.

    Args:
        easiness: [B], r.
        first, second: [B] losses of the two detectors, l1 and l2; no gradient goes through them.
        offset: scalar or [B].
        cost_weight: factor of 1 - r.
    """
    first, second = (ops.stop_gradient(ops.cast(x, "float32")) for x in (first, second))
    difficulty = 1.0 - easiness
    loss = easiness * (first - offset / 2) + difficulty * (second + offset / 2)
    return ops.sum(loss + cost_weight * difficulty)


class OffsetRecord:
    """The gains l1 - l2 of a run's images, and their median.

    It holds variables that are neither weights nor metrics: `variables` belongs to the state that
    a killed run resumes from.

    Args:
        config: how often, and how many.
    """

    def __init__(self, config: RouterLossConfig):
        self.config = config
        self._gains = replicas.common_variable("router_gains", (config.capacity,), "float32")
        self._seen = replicas.common_variable("router_images_seen", (), "int32")
        self._offset = replicas.common_variable("router_offset", (), "float32")

    @property
    def variables(self) -> list[keras.Variable]:
        return [self._gains, self._seen, self._offset]

    @property
    def offset(self) -> Any:
        """The median as it was last taken; 0 at first."""
        return ops.convert_to_tensor(self._offset)

    def advance(self, gains: Tensor) -> Any:
        """Adds the gains [B] of a batch; returns the offset of each image, [B].

        The same as adding them one by one: the offset of an image knows of those before it and of
        itself. On several replicas the images of all of them are added, in the order of the
        replicas.
        """
        everyone, start = replicas.gather_over_replicas(ops.stop_gradient(gains))
        count = ops.shape(everyone)[0]

        def step(
            i: Any, record: Any, seen: Any, offset: Tensor, offsets: Tensor
        ) -> tuple[Any, ...]:
            record, seen = self._added(record, seen, everyone[i])
            offset = ops.cond(
                self._is_due(seen), lambda: self._median(record, seen), lambda: offset
            )
            offsets = ops.scatter_update(offsets, [[i]], ops.reshape(offset, (1,)))
            return i + 1, record, seen, offset, offsets

        loop = (ops.zeros((), "int32"), *map(ops.convert_to_tensor, self.variables))
        _, record, seen, offset, offsets = ops.while_loop(
            lambda i, *_: i < count, step, (*loop, ops.zeros_like(everyone))
        )
        self._assign(record, seen, offset)
        return offsets[start : start + ops.shape(gains)[0]]

    def collect(self, gains: Tensor) -> None:
        """Adds gains [B] and leaves the offset as it is."""

        def step(i: Any, record: Any, seen: Any) -> tuple[Any, ...]:
            return i + 1, *self._added(record, seen, gains[i])

        loop = (ops.zeros((), "int32"), *map(ops.convert_to_tensor, self.variables[:2]))
        count = ops.shape(gains)[0]
        _, record, seen = ops.while_loop(lambda i, *_: i < count, step, loop)
        self._assign(record, seen, self.offset)

    def settle(self) -> None:
        """Takes the median of all that was collected."""
        record, seen, _ = map(ops.convert_to_tensor, self.variables)
        self._offset.assign(self._median(record, seen))

    def _assign(self, record: Any, seen: Any, offset: Tensor) -> None:
        for variable, value in zip(self.variables, (record, seen, offset), strict=True):
            variable.assign(value)

    def _added(self, record: Any, seen: Any, gain: Tensor) -> tuple[Any, Any]:
        place = seen % self.config.capacity
        return ops.scatter_update(record, [[place]], ops.reshape(gain, (1,))), seen + 1

    def _is_due(self, seen: Any) -> Any:
        index = seen - 1
        return ops.logical_or(index < self.config.each_until, index % self.config.interval == 0)

    def _median(self, record: Any, seen: Any) -> Tensor:
        # Of the first ones only as long as there are no more: sorting all takes 20 times as long.
        few = min(self.config.each_until, self.config.capacity)
        return ops.cond(
            seen <= few, lambda: _median(record[:few], seen), lambda: _median(record, seen)
        )


def _median(values: Tensor, count: Tensor) -> Tensor:
    """Median of the first `count` values, of all where there are fewer; of two middles the mean."""
    size = values.shape[0]
    count = ops.minimum(count, size)
    order = ops.sort(ops.where(ops.arange(size, dtype="int32") < count, values, np.float32(np.inf)))
    return 0.5 * (order[(count - 1) // 2] + order[count // 2])
