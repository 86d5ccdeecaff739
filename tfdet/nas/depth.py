"""Removes whole blocks of a ResNet, and adds blocks that change nothing yet."""

import dataclasses
from typing import Literal

import numpy as np

from tfdet.backbones.encoding import Block, Encoding, Place
from tfdet.errors import UserError
from tfdet.nas.weights import Weights, block_weights, stage_weights, with_stages

Importance = Literal["sum", "mean"]


def prune_layers(
    encoding: Encoding, weights: Weights, count: int = 1, by: Importance = "sum"
) -> tuple[Encoding, Weights]:
    """Removes the least important blocks, one after the other.

    Args:
        encoding, weights: of a detector; they are not changed.
        count: of blocks.
        by: importance of a block, see `block_importance`.
    """
    for _ in range(count):
        places = removable(encoding)
        if not places:
            raise UserError(
                "no block can be removed: each has a projection, or is the only one of its stage"
            )
        least = min(places, key=lambda place: block_importance(weights, place, by))
        encoding, weights = remove_block(encoding, weights, least)
    return encoding, weights


def removable(encoding: Encoding) -> list[Place]:
    """Blocks with an identity shortcut that are not alone in their stage."""
    return [
        place
        for place, block in encoding.blocks()
        if not block.projection and encoding.depths[place.stage - 1] > 1
    ]


def block_importance(weights: Weights, place: Place, by: Importance = "sum") -> float:
    """L1 norm of the kernels of a block: the sum, or the mean, which does not favour wide ones."""
    kernels = [
        np.abs(value).ravel()
        for name, value in block_weights(weights, place).items()
        if name.endswith("kernel")
    ]
    values = np.concatenate(kernels).astype(np.float64)
    return float(values.sum() if by == "sum" else values.mean())


def remove_block(encoding: Encoding, weights: Weights, place: Place) -> tuple[Encoding, Weights]:
    """The network without one of the blocks that `removable` names."""
    if place not in removable(encoding):
        raise UserError(
            f"{place} cannot be removed: only blocks that are there, with an identity shortcut, "
            "and not alone in their stage, can be"
        )
    stage, index = place
    blocks = list(encoding.stages[stage - 1])
    values = stage_weights(encoding, weights, stage)
    del blocks[index], values[index]
    return with_blocks(encoding, {stage: blocks}), with_stages(weights, {stage: values})


def add_layer(encoding: Encoding, weights: Weights, stage: int) -> tuple[Encoding, Weights]:
    """Appends a block to a stage that gives what it takes, until it is trained.

    It is like the last block of the stage, with an identity shortcut. Its convolutions pass
    channels on, and its last batch norm multiplies them by 0.
    """
    if not 1 <= stage <= len(encoding.stages):
        raise UserError(f"stage must be 1 to {len(encoding.stages)}, got {stage}")
    blocks = list(encoding.stages[stage - 1])
    block = dataclasses.replace(blocks[-1], stride=1, projection=False)
    values = [*stage_weights(encoding, weights, stage), identity_weights(block)]
    encoding = with_blocks(encoding, {stage: [*blocks, block]})
    return encoding, with_stages(weights, {stage: values})


def with_blocks(encoding: Encoding, stages: dict[int, list[Block]]) -> Encoding:
    """`encoding` with other blocks in these stages."""
    changed = tuple(
        tuple(stages.get(number, blocks)) for number, blocks in enumerate(encoding.stages, start=1)
    )
    return dataclasses.replace(encoding, stages=changed)


def identity_weights(block: Block) -> Weights:
    """Weights of a block with an identity shortcut that adds 0 to it."""
    made, width = {}, block.out_width
    last = len(block.widths)
    for i, filters in enumerate(block.widths, start=1):
        size = 3 if block.is_basic or i == 2 else 1
        groups = block.groups if i == 2 else 1
        made[f"conv{i}/kernel"] = dirac(size, width, filters, groups)
        made |= norm_weights(f"bn{i}", filters, gamma=0.0 if i == last else 1.0)
        width = filters
    if block.deformable:
        taps = 3 * 3**2
        made["conv2/offset/kernel"] = np.zeros((3, 3, block.widths[0], taps), np.float32)
        made["conv2/offset/bias"] = np.zeros(taps, np.float32)
    return made


def norm_weights(name: str, width: int, gamma: float = 1.0) -> Weights:
    """Weights of a batch norm that multiplies by `gamma`."""
    values = {"gamma": gamma, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}
    return {f"{name}/{part}": np.full(width, v, np.float32) for part, v in values.items()}


def dirac(size: int, in_width: int, out_width: int, groups: int = 1) -> np.ndarray:
    """The kernel [size, size, in_width / groups, out_width] that passes channels on.

    Within each group, output i is input i; outputs beyond the inputs are 0.
    """
    inputs, outputs = in_width // groups, out_width // groups
    kernel = np.zeros((size, size, inputs, out_width), np.float32)
    for group in range(groups):
        for i in range(min(inputs, outputs)):
            kernel[size // 2, size // 2, i, group * outputs + i] = 1.0
    return kernel
