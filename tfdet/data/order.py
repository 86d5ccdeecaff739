"""Which images are in which batch: a pure function, so that a run can go on at any step."""

import functools

import numpy as np


def batch_positions(dataset_size: int, batch_size: int, seed: int, step: int) -> tuple:
    """Images of the batch of a global step, and the epoch that each of them belongs to.

    Training reads one endless stream: permutations of the data set, one per epoch, end to end.
    Every image comes once per epoch also where the batch size does not divide their number, and a
    data set may be smaller than a batch.

    Returns:
        `(indices int64 [batch_size], epochs int64 [batch_size])`.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, places = np.divmod(positions, dataset_size)
    indices = np.empty_like(places)
    for epoch in np.unique(epochs):
        is_in = epochs == epoch
        indices[is_in] = _permutation(dataset_size, seed, int(epoch))[places[is_in]]
    return indices, epochs


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
