import keras
import numpy as np

from tfdet.layers.reorg import ReOrg


def test_pixels_of_a_square_are_ordered_down_the_columns():
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    corners = [x[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
    found = ReOrg()(x)
    np.testing.assert_array_equal(found, np.concatenate(corners, axis=-1))
    assert ReOrg()(keras.KerasTensor((2, 4, 6, 3))).shape == found.shape
