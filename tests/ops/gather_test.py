import keras
import numpy as np

from tfdet.ops.gather import gather_rows, take_rows


def test_picks_rows_of_each_image():
    values = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    picked = np.array(gather_rows(values, np.int32([[2, 0], [1, 1]])))
    np.testing.assert_array_equal(picked, [values[0, [2, 0]], values[1, [1, 1]]])


def test_scalars_and_empty_batches():
    assert np.array(gather_rows(np.zeros((2, 3)), np.zeros((2, 5), np.int32))).shape == (2, 5)
    assert np.array(gather_rows(np.zeros((0, 3, 4)), np.zeros((0, 5), np.int32))).shape == (0, 5, 4)


def test_a_batch_without_a_size_has_a_shape():
    values, indices = keras.KerasTensor((None, 3, 4)), np.zeros((1, 5), np.int32)
    assert gather_rows(values, indices).shape == (None, 5, 4)


def test_rows_of_a_table_are_taken_in_the_shape_of_the_indices():
    table = np.arange(12).reshape(4, 3)
    indices = np.int32([[3, 0], [1, 1], [2, 0]])
    np.testing.assert_array_equal(take_rows(table, indices), table[indices])
    assert take_rows(keras.KerasTensor((4, 3)), indices).shape == (3, 2, 3)
