"""Subnets of a super-network as networks of their own: pure functions of encoding and weights."""

from collections.abc import Sequence

import numpy as np

from tfdet.backbones.encoding import Encoding, Place
from tfdet.nas.channel_pruning import READ, Space, arrays_of, choose_channels, importance, spaces
from tfdet.nas.depth import remove_block
from tfdet.nas.subnets import Sort, Subnet
from tfdet.nas.weights import LATERALS, Readers, Weights


def extract(
    encoding: Encoding,
    weights: Weights,
    subnet: Subnet,
    full_width: float,
    readers: Readers = LATERALS,
) -> tuple[Encoding, Weights]:
    """The subnet's encoding and weights, cut from those of the super-network.

    Args:
        encoding, weights: of the super-network; they are not changed. Without weights ({}) the
            encoding alone is made.
        subnet: which one.
        full_width: coefficient of the super-network.
        readers: kernels outside of the backbone that read its outputs.
    """
    for stage, depth in enumerate(subnet.depths, start=1):
        for index in reversed(range(depth, encoding.depths[stage - 1])):
            encoding, weights = remove_block(encoding, weights, Place(stage, index))
    kept = {
        space: range(kept_width(space, subnet.widths[space.place.stage - 1], full_width))
        for space in spaces(encoding)
    }
    return choose_channels(encoding, weights, kept, readers)


def kept_width(space: Space, width: float, full_width: float) -> int:
    """How many channels of a space a stage with the coefficient `width` has."""
    units = round(space.width // space.unit * width / full_width)
    return max(units, 1) * space.unit


def sort_channels(
    encoding: Encoding,
    weights: Weights,
    by: Sort = "weights",
    readers: Readers = LATERALS,
) -> Weights:
    """The weights of the same function, with the most important channels of each space first.

    Args:
        encoding, weights: of a detector; they are not changed.
        by: "gamma" of the batch norms, or the L1 norm of the "weights" that read a channel.
        readers: kernels outside of the backbone that read its outputs.
    """
    orders = {}
    for space in spaces(encoding):
        if by == "gamma":
            scores = importance(space, weights)
        else:
            scores = _reading(encoding, weights, space, readers)
        units = np.argsort(-scores, kind="stable")
        orders[space] = _channels(units, space.unit)
    return choose_channels(encoding, weights, orders, readers)[1]


def _channels(units: np.ndarray, width: int) -> Sequence[int]:
    return (units[:, None] * width + np.arange(width)).ravel().tolist()


def _reading(encoding: Encoding, weights: Weights, space: Space, readers: Readers) -> np.ndarray:
    """The L1 norm of all weights that read each unit of a space."""
    total = np.zeros(space.width, np.float64)
    for name, axis in arrays_of(encoding, space, weights, readers):
        if axis == READ:
            total += np.abs(weights[name]).sum(axis=(0, 1, 3))
    return total.reshape(-1, space.unit).sum(axis=1)
