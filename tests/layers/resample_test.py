import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers.resample import Resample, enlarge_nearest, shrink


def _map(height, width, channels=2):
    return np.random.default_rng(0).normal(size=(2, height, width, channels)).astype("float32")


@pytest.mark.parametrize("source", range(1, 12))
def test_enlarging_takes_the_floor_like_tensorflow_1(source):
    x = _map(source, source)
    for target in range(source, 30):
        expected = tf.compat.v1.image.resize_nearest_neighbor(x, (target, target))
        np.testing.assert_array_equal(enlarge_nearest(x, (target, target)), expected)


def test_three_to_five_repeats_the_first_rows():
    x = np.arange(3, dtype="float32").reshape(1, 3, 1, 1)
    assert enlarge_nearest(x, (5, 1))[0, :, 0, 0].numpy().tolist() == [0, 0, 1, 1, 2]


def test_a_batch_without_a_size_is_enlarged_too():
    assert enlarge_nearest(keras.KerasTensor((None, 3, 4, 2)), (5, 7)).shape == (None, 5, 7, 2)
    run = tf.function(lambda x: enlarge_nearest(x, (5, 7)), autograph=False)
    x = _map(3, 4)
    found = run.get_concrete_function(tf.TensorSpec((None, 3, 4, 2)))(tf.constant(x))
    np.testing.assert_array_equal(found, enlarge_nearest(x, (5, 7)))


def test_the_gradient_of_enlarging_adds_up_the_copies():
    x = tf.constant(_map(3, 4))
    weights = np.random.default_rng(1).normal(size=(2, 5, 7, 2)).astype("float32")
    gradients = []
    for enlarge in (enlarge_nearest, tf.compat.v1.image.resize_nearest_neighbor):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(weights * enlarge(x, (5, 7)))
        gradients.append(tf.convert_to_tensor(tape.gradient(loss, x)))
    np.testing.assert_allclose(*gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 5), (64, 3), (2, 2), (1, 4)])
def test_shrinking_is_a_3x3_max_pool_with_stride_2(height, width):
    x = _map(height, width)
    size = (-(-height // 2), -(-width // 2))
    expected = tf.nn.max_pool2d(x, [3 if height > 1 else 2, 3], [2 if height > 1 else 1, 2], "SAME")
    np.testing.assert_array_equal(shrink(x, size), expected)


@pytest.mark.parametrize("sizes", [((9, 9), (3, 3)), ((8, 6), (2, 3)), ((5, 5), (5, 5))])
def test_any_smaller_size_is_met(sizes):
    source, target = sizes
    assert shrink(_map(*source), target).shape[1:3] == target


def test_growing_one_side_and_shrinking_the_other_is_refused():
    with pytest.raises(ValueError, match="cannot resample 4x4 to 2x8"):
        shrink(_map(4, 4), (2, 8))


def test_equal_widths_have_no_variables():
    layer = Resample(2)
    np.testing.assert_array_equal(layer(_map(4, 4), size=(4, 4)), _map(4, 4))
    assert not layer.weights


def test_other_widths_get_a_convolution_with_bias_and_a_norm():
    layer = Resample(3)
    assert layer(_map(4, 4), size=(2, 2)).shape == (2, 2, 2, 3)
    assert [v.shape for v in layer.weights] == [(1, 1, 2, 3)] + [(3,)] * 5
    layer = Resample(3, batch_norm=None)
    layer(_map(4, 4), size=(2, 2))
    assert len(layer.weights) == 2


def test_pooling_may_come_before_or_after_the_convolution():
    first, last = Resample(3, pool_first=True), Resample(3)
    x = _map(4, 4)
    first(x, size=(2, 2)), last(x, size=(2, 2))
    first.conv.set_weights([-np.ones((1, 1, 2, 3)), np.zeros(3)])
    last.conv.set_weights(first.conv.get_weights())
    scale = 1 / np.sqrt(1.001)
    np.testing.assert_allclose(
        first(x, size=(2, 2))[..., 0], -scale * shrink(x, (2, 2)).numpy().sum(-1), rtol=1e-4
    )
    pooled = shrink(-x.sum(-1, keepdims=True), (2, 2))
    np.testing.assert_allclose(last(x, size=(2, 2))[..., :1], scale * pooled, rtol=1e-4)
