"""Moves blocks of a ResNet between neighbouring stages: only strides change.

The network halves its map one block earlier or later. What was learned is kept, but for the
shortcut of a block that had none with weights and now has the stride: it begins as plain
subsampling.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from tfdet.backbones.encoding import Block, Encoding
from tfdet.errors import UserError
from tfdet.nas.depth import dirac, norm_weights, with_blocks
from tfdet.nas.weights import LATERALS, Readers, Weights, stage_weights, with_stages


class _Part(NamedTuple):
    """A block with its weights."""

    block: Block
    weights: Weights


def rearrange(
    encoding: Encoding,
    weights: Weights,
    stage: int,
    backward: bool = False,
    seed: int = 0,
    readers: Readers = LATERALS,
) -> tuple[Encoding, Weights]:
    """Moves the last block of `stage` to the front of the next, or that one's first back.

    A block that no longer has the stride keeps its projection where its widths differ. Where they
    are equal, the projection is handed to the block that has the stride now, if that has none.

    Args:
        encoding, weights: of a detector; they are not changed.
        stage: 1 to 3.
        backward: takes the first block of the next stage to the end of `stage`.
        seed: of what reads the output of `stage` if its width changes, which must start from new
            weights.
        readers: kernels outside of the backbone that read its outputs.
    """
    if stage not in rearrangeable(encoding, backward):
        raise UserError(
            f"stage {stage} cannot {'take' if backward else 'give'} a block "
            f"{'from' if backward else 'to'} the next one: stages are 1 to 3, and the one that "
            "loses it must have two blocks"
        )
    left, right = (_parts(encoding, weights, number) for number in (stage, stage + 1))
    if backward:
        moved = right.pop(0)
        moved, right[0] = _pass_stride(moved, left[-1].block.out_width, right[0])
        left.append(moved)
    else:
        moved = left.pop()
        right[0], moved = _pass_stride(right[0], moved.block.out_width, moved)
        right.insert(0, moved)
    parts = {stage: left, stage + 1: right}
    changed = with_blocks(encoding, {n: [p.block for p in row] for n, row in parts.items()})
    values = with_stages(weights, {n: [p.weights for p in row] for n, row in parts.items()})
    if changed.out_widths != encoding.out_widths:
        values |= _new_readers(values, readers[stage], changed.out_widths[stage - 1], seed)
    return changed, values


def rearrangeable(encoding: Encoding, backward: bool = False) -> list[int]:
    """The stages that can give their last block to the next, or take that one's first."""
    givers = encoding.depths[1:] if backward else encoding.depths[:-1]
    return [stage for stage, depth in enumerate(givers, start=1) if depth > 1]


def _parts(encoding: Encoding, weights: Weights, stage: int) -> list[_Part]:
    values = stage_weights(encoding, weights, stage)
    return [_Part(*pair) for pair in zip(encoding.stages[stage - 1], values, strict=True)]


def _pass_stride(giver: _Part, in_width: int, taker: _Part) -> tuple[_Part, _Part]:
    """Both blocks when the second has the stride of the first, which now reads `in_width`."""
    keeps = in_width != giver.block.out_width
    shortcut = {name: v for name, v in giver.weights.items() if name.startswith("projection")}
    rest = {name: v for name, v in giver.weights.items() if name not in shortcut}
    width = taker.block.out_width
    new = {"projection/kernel": dirac(1, width, width), **norm_weights("projection_bn", width)}
    taken = {} if taker.block.projection else new if keeps else shortcut
    return (
        _Part(
            dataclasses.replace(giver.block, stride=1, projection=keeps),
            giver.weights if keeps else rest,
        ),
        _Part(
            dataclasses.replace(taker.block, stride=2, projection=True),
            {**taker.weights, **taken},
        ),
    )


def _new_readers(weights: Weights, names: tuple[str, ...], in_width: int, seed: int) -> Weights:
    """Kernels for another number of channels, drawn as a feature pyramid's are at the start."""
    random, made = np.random.default_rng(seed), {}
    for name in names:
        if name in weights:
            height, width, _, filters = weights[name].shape
            bound = np.sqrt(3 / (height * width * in_width))
            shape = (height, width, in_width, filters)
            made[name] = random.uniform(-bound, bound, shape).astype(np.float32)
    return made
