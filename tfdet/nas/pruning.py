"""Prunes the channels of a trained detector until it costs no more than is asked for."""

import bisect
import dataclasses
from collections.abc import Callable
from typing import Any

from tfdet import profiling
from tfdet.backbones.encoding import Encoding
from tfdet.errors import UserError
from tfdet.nas.channel_pruning import removal_order, remove_channels
from tfdet.nas.weights import model_encoding, model_readers, rebuild, take_weights


@dataclasses.dataclass(frozen=True)
class Pruned:
    """A detector that was pruned, and what it costs.

    Attributes:
        model: the smaller detector, with the weights that are left.
        encodings: of the backbones before and after.
        macs: multiply-adds of an image before and after.
        removed: how many channels, or groups of a ResNeXt, are gone.
    """

    model: Any
    encodings: tuple[Encoding, Encoding]
    macs: tuple[int, int]
    removed: int

    def to_table(self) -> str:
        """A row per block: its widths before and after."""
        before, after = self.encodings
        rows = [f"{'block':<20}widths"]
        for (place, old), (_, new) in zip(before.blocks(), after.blocks(), strict=True):
            left, right = (" ".join(f"{w:>5}" for w in block.widths) for block in (old, new))
            rows.append(f"{place!s:<20}{left}  -> {right}")
        return "\n".join(rows)


def prune_to(model: Any, target_macs: float, floor: int = 16) -> Pruned:
    """Removes the least important channels of a detector's ResNet, no more than it takes.

    Args:
        model: a detector on a ResNet; it is not changed.
        target_macs: multiply-adds of one image of its size.
        floor: channels that each convolution keeps.
    """
    encoding, weights = model_encoding(model), take_weights(model)
    order = removal_order(encoding, weights, floor)
    cost = _cost_function(model)

    def macs_without(count: int) -> int:
        # Which channels go needs no weights any more.
        return cost(remove_channels(encoding, {}, order[:count])[0])

    before = macs_without(0)
    if before <= target_macs:
        raise UserError(
            f"{model.name} costs {_giga(before)} multiply-adds already, no more than the "
            f"{_giga(target_macs)} asked for"
        )
    least = macs_without(len(order))
    if least > target_macs:
        raise UserError(
            f"pruning brings {model.name} from {_giga(before)} multiply-adds to {_giga(least)} at "
            f"the least, with {floor} channels left in each convolution; {_giga(target_macs)} "
            "cannot be reached"
        )
    # More channels less cost never more: the first count that is cheap enough.
    count = bisect.bisect_left(
        range(len(order)), True, key=lambda n: macs_without(n) <= target_macs
    )
    pruned, left = remove_channels(encoding, weights, order[:count], model_readers(model))
    student = rebuild(model, pruned, left)
    return Pruned(student, (encoding, pruned), (before, cost(pruned)), count)


def _cost_function(model: Any) -> Callable[[Encoding], int]:
    known: dict[Encoding, int] = {}

    def cost(encoding: Encoding) -> int:
        if encoding not in known:
            config = dataclasses.replace(model.config, backbone=encoding)
            made = profiling.profile_unbuilt(lambda: type(model).from_record(config, model.name))
            known[encoding] = made.macs
        return known[encoding]

    return cost


def _giga(macs: float) -> str:
    return f"{macs / 1e9:.4g} G"
