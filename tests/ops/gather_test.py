import numpy as np

from tfdet.ops.gather import gather_rows


def test_picks_rows_of_each_image():
    values = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    picked = np.array(gather_rows(values, np.int32([[2, 0], [1, 1]])))
    np.testing.assert_array_equal(picked, [values[0, [2, 0]], values[1, [1, 1]]])


def test_scalars_and_empty_batches():
    assert np.array(gather_rows(np.zeros((2, 3)), np.zeros((2, 5), np.int32))).shape == (2, 5)
    assert np.array(gather_rows(np.zeros((0, 3, 4)), np.zeros((0, 5), np.int32))).shape == (0, 5, 4)
