import pytest
import tensorflow as tf

from tfdet.ops.as_written import as_written


def sign(x):
    if x > 0:  # which AutoGraph makes a `tf.cond` of
        return 1.0
    return -1.0


def test_the_function_and_all_it_hands_on_are_left_alone():
    def over_rows(x):
        return tf.map_fn(sign, x)

    rows = tf.constant([2.0, -3.0])
    assert tf.function(over_rows)(rows).numpy().tolist() == [1, -1]
    for whole in (as_written(over_rows), lambda x: tf.map_fn(as_written(sign), x)):
        with pytest.raises(TypeError, match="symbolic"):
            tf.function(whole)(rows)
    data = tf.data.Dataset.from_tensor_slices(rows)
    assert list(data.map(sign).as_numpy_iterator()) == [1, -1]
    with pytest.raises(TypeError, match="symbolic"):
        data.map(as_written(sign))


def test_it_is_the_same_function():
    assert tf.function(as_written(lambda x, y=2.0: x * y))(tf.constant(3.0)).numpy() == 6
    assert as_written(sign).__name__ == "sign"
