"""Removes channels of a ResNet by the scales of their batch norms; what is left keeps its weights.

The less |gamma|, the less a channel matters; all that can be removed are ranked together. Blocks
that identity shortcuts link share their output channels, and the batch norm of the projection
before them decides which survive. In ResNeXts whole groups of the 3x3 convolutions are removed, and
outputs are left as they are.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tfdet.backbones.encoding import Block, Encoding, Place
from tfdet.errors import UserError
from tfdet.nas.weights import LATERALS, Readers, Weights, block_prefix

# Of a ResNeXt's block: with a single one it would no longer be known as grouped.
_MIN_GROUPS = 2


class Space(NamedTuple):
    """Channels that are removed together wherever they occur.

    Attributes:
        place: of the block that has them; of an output, the first that gives it.
        conv: number of the convolution that makes them; 0 for the output of linked blocks.
        width: how many there are.
        unit: how many are removed at once: those of a group in a ResNeXt.
    """

    place: Place
    conv: int
    width: int
    unit: int = 1

    def floor(self, channels: int) -> int:
        """How many units are left when no more can be removed."""
        return max(_MIN_GROUPS if self.unit > 1 else 1, math.ceil(channels / self.unit))


class Removal(NamedTuple):
    """One unit of a space."""

    space: Space
    unit: int


def prune_channels(
    encoding: Encoding,
    weights: Weights,
    share: float = 0.1,
    floor: int = 16,
    readers: Readers = LATERALS,
) -> tuple[Encoding, Weights]:
    """Removes the least important channels.

    Args:
        encoding, weights: of a detector; they are not changed.
        share: of all channels that could be removed if there were no floor.
        floor: each convolution keeps so many channels.
        readers: kernels outside of the backbone that read its outputs.
    """
    if not 0 < share < 1:
        raise UserError(f"the share of channels to prune must be in (0, 1), got {share}")
    order = removal_order(encoding, weights, floor)
    if not order:
        raise UserError(f"no channel can be removed: each convolution is at its floor of {floor}")
    done = np.cumsum([space.unit for space, _ in order])
    wanted = share * sum(space.width for space in spaces(encoding))
    count = max(1, int(np.searchsorted(done, wanted, side="right")))
    return remove_channels(encoding, weights, order[:count], readers)


def spaces(encoding: Encoding) -> list[Space]:
    """All channels that can be removed, in the order of the data."""
    found = []
    is_grouped = any(block.groups > 1 for _, block in encoding.blocks())
    for place, block in encoding.blocks():
        if block.projection and not is_grouped:
            found.append(Space(place, 0, block.out_width))
        if block.groups > 1:
            found.append(Space(place, 1, block.widths[0], block.group_width))
        else:
            found += [Space(place, i, w) for i, w in enumerate(block.widths[:-1], start=1)]
    return found


def linked(encoding: Encoding, place: Place) -> list[Place]:
    """The block at `place`, and those behind it that identity shortcuts link to it."""
    blocks = encoding.stages[place.stage - 1]
    end = place.index + 1
    while end < len(blocks) and not blocks[end].projection:
        end += 1
    return [Place(place.stage, i) for i in range(place.index, end)]


def importance(space: Space, weights: Weights) -> np.ndarray:
    """How much each unit of a space matters: the mean of |gamma| over its channels."""
    prefix = block_prefix(space.place)
    if space.conv == 0:
        names = ["projection_bn"]
    else:
        names = ["bn1", "bn2"] if space.unit > 1 else [f"bn{space.conv}"]
    scales = [np.abs(weights[f"{prefix}{name}/gamma"]) for name in names]
    return np.mean(scales, axis=0).reshape(-1, space.unit).mean(axis=1)


def removal_order(encoding: Encoding, weights: Weights, floor: int = 16) -> list[Removal]:
    """Everything that can be removed, the least important first."""
    if floor < 1:
        raise UserError(f"the floor of channels must be at least 1, got {floor}")
    all_spaces = spaces(encoding)
    scores = [importance(space, weights) for space in all_spaces]
    units = [
        Removal(space, unit)
        for space, values in zip(all_spaces, scores, strict=True)
        for unit in range(len(values))
    ]
    left = {space: space.width // space.unit for space in all_spaces}
    order = []
    for i in np.argsort(np.concatenate(scores), kind="stable"):
        space = units[i].space
        if left[space] > space.floor(floor):
            left[space] -= 1
            order.append(units[i])
    return order


def remove_channels(
    encoding: Encoding,
    weights: Weights,
    removals: Sequence[Removal],
    readers: Readers = LATERALS,
) -> tuple[Encoding, Weights]:
    """The encoding and the weights without these channels."""
    gone: dict[Space, set[int]] = {}
    for space, unit in removals:
        gone.setdefault(space, set()).update(range(unit * space.unit, (unit + 1) * space.unit))
    kept = {
        space: [i for i in range(space.width) if i not in channels]
        for space, channels in gone.items()
    }
    return choose_channels(encoding, weights, kept, readers)


def choose_channels(
    encoding: Encoding,
    weights: Weights,
    chosen: Mapping[Space, Sequence[int]],
    readers: Readers = LATERALS,
) -> tuple[Encoding, Weights]:
    """The encoding and the weights with these channels only, in this order, of each space named."""
    weights, widths = dict(weights), {place: list(b.widths) for place, b in encoding.blocks()}
    for space, channels in chosen.items():
        for name, axis in arrays_of(encoding, space, weights, readers):
            weights[name] = np.take(weights[name], channels, axis)
        if space.conv == 0:
            for place in linked(encoding, space.place):
                widths[place][-1] = len(channels)
        else:
            widths[space.place][space.conv - 1] = len(channels)
            if space.unit > 1:
                widths[space.place][space.conv] = len(channels)
    return _resized(encoding, widths), weights


def _resized(encoding: Encoding, widths: Mapping[Place, list[int]]) -> Encoding:
    def block(place: Place, old: Block) -> Block:
        new = tuple(widths[place])
        groups = new[1] // old.group_width if old.groups > 1 else 1
        return dataclasses.replace(old, widths=new, groups=groups)

    stages = tuple(
        tuple(block(Place(number, i), old) for i, old in enumerate(blocks))
        for number, blocks in enumerate(encoding.stages, start=1)
    )
    return dataclasses.replace(encoding, stages=stages)


_MADE, READ = 3, 2  # axes of a kernel: output and input channels


def arrays_of(
    encoding: Encoding, space: Space, weights: Weights, readers: Readers
) -> list[tuple[str, int]]:
    """Each array that the channels of a space are part of, with the axis that they lie on."""
    found = _output_cuts(encoding, space.place, readers) if space.conv == 0 else _inner_cuts(space)
    return [(name, axis) for name, axis in found if name in weights]


def _inner_cuts(space: Space) -> list[tuple[str, int]]:
    prefix, conv = block_prefix(space.place), space.conv
    cuts = _made_by(prefix, conv)
    if conv == 1:  # of a deformable convolution
        cuts.append((f"{prefix}conv2/offset/kernel", READ))
    if space.unit == 1:
        return [*cuts, (f"{prefix}conv{conv + 1}/kernel", READ)]
    # A grouped kernel is [3, 3, channels of a group, all outputs].
    return [*cuts, *_made_by(prefix, 2), (f"{prefix}conv3/kernel", READ)]


def _output_cuts(encoding: Encoding, place: Place, readers: Readers) -> list[tuple[str, int]]:
    last_conv = len(encoding.block(place).widths)
    chain = linked(encoding, place)
    cuts = _made_by(block_prefix(place), "projection", "projection_bn")
    for member in chain:
        cuts += _made_by(block_prefix(member), last_conv)
    cuts += [(f"{block_prefix(member)}conv1/kernel", READ) for member in chain[1:]]
    after = Place(place.stage, chain[-1].index + 1)
    if after.index == encoding.depths[place.stage - 1]:
        cuts += [(name, READ) for name in readers.get(place.stage, ())]
        after = Place(place.stage + 1, 0)
    prefix = block_prefix(after)
    return [*cuts, (f"{prefix}conv1/kernel", READ), (f"{prefix}projection/kernel", READ)]


def _made_by(prefix: str, conv: int | str, norm: str = "") -> list[tuple[str, int]]:
    """The arrays of a convolution, and of the batch norm behind it, by output channels."""
    conv, norm = (conv, norm) if norm else (f"conv{conv}", f"bn{conv}")
    parts = ("gamma", "beta", "moving_mean", "moving_variance")
    return [(f"{prefix}{conv}/kernel", _MADE), *((f"{prefix}{norm}/{part}", 0) for part in parts)]
