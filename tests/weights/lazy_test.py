import numpy as np
import pytest

from tfdet.weights.lazy import LazyTensor, decode


def test_nothing_is_read_before_it_is_asked_for():
    calls = []

    def load():
        calls.append(1)
        return np.ones((2, 3), np.float32)

    tensor = LazyTensor((2, 3), "float32", load)
    assert (tensor.size, calls) == (6, [])
    assert np.asarray(tensor, "float64").dtype == np.float64
    np.testing.assert_array_equal(tensor, np.ones((2, 3)))
    assert len(calls) == 2


def test_an_array_of_its_own_can_be_asked_for():
    kept = np.ones(3, np.float32)
    kept.flags.writeable = False  # as those that are cut from the bytes of a file
    tensor = LazyTensor((3,), "float32", lambda: kept)
    np.array(tensor, copy=True)[0] = 2
    assert kept[0] == 1
    with pytest.raises(ValueError, match="without a copy"):
        tensor.__array__(copy=False)


def test_bytes_of_both_orders_become_native_values():
    for order in "<>":
        content = np.array([1, -2], f"{order}i4").tobytes()
        np.testing.assert_array_equal(decode(content, "int32", order), [1, -2])
        halves = np.array([0x3F80, 0xC000], f"{order}u2").tobytes()
        np.testing.assert_array_equal(decode(halves, "bfloat16", order), [1.0, -2.0])
