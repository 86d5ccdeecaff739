"""Which images are in which batch: a pure function, so that a run can go on at any step."""

import functools
from collections.abc import Callable

import numpy as np


def batch_positions(dataset_size: int, batch_size: int, seed: int, step: int) -> tuple:
    """Images of the batch of a global step, and the epoch that each of them belongs to.

    Training reads one endless stream: permutations of the data set, one per epoch, end to end.
    Every image comes once per epoch also where the batch size does not divide their number, and a
    data set may be smaller than a batch.

    Returns:
        `(indices int64 [batch_size], epochs int64 [batch_size])`.
    """
    return stream_positions(
        dataset_size, batch_size, step, lambda epoch: _permutation(dataset_size, seed, epoch)
    )


def stream_positions(
    size: int, batch_size: int, step: int, permutation: Callable[[int], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """As `batch_positions`, for permutations int64 [size] that are given by epoch."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, places = np.divmod(positions, size)
    indices = np.empty_like(places)
    for epoch in np.unique(epochs):
        is_in = epochs == epoch
        indices[is_in] = permutation(int(epoch))[places[is_in]]
    return indices, epochs


class RandomOrder:
    """Which images are in which batch, where any image can be read at any time.

    Args:
        count: images in the data set.
    """

    def __init__(self, count: int):
        self._count = count

    def positions(
        self, batch_size: int, seed: int, step: int, shard: tuple[int, int] = (0, 1)
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images and their epochs in this process's part of the batch of a global step."""
        index, count = shard
        rows = slice(index * (batch_size // count), (index + 1) * (batch_size // count))
        indices, epochs = batch_positions(self._count, batch_size, seed, step)
        return indices[rows], epochs[rows]


def batch_indices(dataset_size: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Positions int64 [batch_size] of the images in the batch of a global step."""
    return batch_positions(dataset_size, batch_size, seed, step)[0]


def example_seed(seed: int, epoch: int, index: int) -> np.ndarray:
    """int32 [2], the seed of all random choices for one image in one epoch."""
    words = np.random.SeedSequence([seed, epoch, index]).generate_state(2)
    return words.view(np.int32)


@functools.lru_cache(maxsize=8)
def _permutation(dataset_size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(dataset_size)
