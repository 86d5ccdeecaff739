import numpy as np
import pytest

from tfdet.data.order import batch_indices, batch_positions, example_seed


@pytest.mark.parametrize(("size", "batch"), [(10, 3), (7, 7), (3, 8), (1, 4), (64, 16)])
def test_every_epoch_shows_every_image_once(size, batch):
    steps = range(3 * size)  # 3 * batch epochs in all
    stream = np.concatenate([batch_indices(size, batch, 0, step) for step in steps])
    for epoch in stream.reshape(-1, size):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))


def test_epochs_and_seeds_have_their_own_order():
    first, second = batch_indices(50, 50, 0, 0), batch_indices(50, 50, 0, 1)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, batch_indices(50, 50, 1, 0))
    np.testing.assert_array_equal(first, batch_indices(50, 50, 0, 0))


def test_epochs_are_counted_per_image():
    _, epochs = batch_positions(5, 4, 0, 1)
    np.testing.assert_array_equal(epochs, [0, 1, 1, 1])


def test_example_seeds_differ_in_each_word():
    seeds = [example_seed(*words) for words in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]]
    assert len({tuple(seed) for seed in seeds}) == 4
    assert all(seed.dtype == np.int32 and seed.shape == (2,) for seed in seeds)
