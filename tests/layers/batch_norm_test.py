import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.layers import batch_norm as norms


def _pair(kind="plain"):
    """One of our norms and Keras's own, with the same variables."""
    ours, theirs = norms.batch_norm(kind, "ours"), keras.layers.BatchNormalization(name="theirs")
    rng = np.random.default_rng(0)
    values = [rng.uniform(0.5, 2, 5).astype("float32") for _ in range(4)]
    for layer in (ours, theirs):
        layer.build((None, None, None, 5))
        layer.set_weights(values)
    return ours, theirs, rng.normal(1, 3, (2, 4, 3, 5)).astype("float32")


def _run(layer, x, training):
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(x))
        y = layer(x, training=training)
        loss = tf.reduce_sum(y**3)
    return y, tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])


class _Factors(norms.Hook):
    def __init__(self, only):
        self.only = only

    def factor(self, layer):
        return np.array([1.0, 0.0, 1.0], np.float32) if layer is self.only else None


@pytest.mark.parametrize("kind", ["plain", "synchronized"])
@pytest.mark.parametrize("training", [True, False])
def test_equals_keras_in_outputs_gradients_and_statistics(kind, training):
    ours, theirs, x = _pair(kind)
    (y, gradients), (expected, expected_gradients) = (_run(n, x, training) for n in (ours, theirs))
    np.testing.assert_allclose(y, expected, atol=1e-4)
    for a, b in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "synchronized"])
def test_no_updates_leaves_statistics_alone_and_nothing_else(kind):
    ours, theirs, x = _pair(kind)
    before = ours.moving_mean.numpy()
    with norms.no_updates():
        y = ours(x, training=True)
    np.testing.assert_array_equal(ours.moving_mean, before)
    np.testing.assert_allclose(y, theirs(x, training=True), atol=1e-4)
    ours(x, training=True)
    assert not np.allclose(ours.moving_mean, before)


def test_frozen_norms_use_and_keep_their_statistics():
    ours, theirs, x = _pair("frozen")
    before = [v.numpy() for v in ours.weights]
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=False), atol=1e-5)
    for now, then in zip(ours.weights, before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert not ours.trainable_weights


@pytest.mark.parametrize("kind", ["plain", "synchronized"])
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_maps_have_float32_statistics(kind, dtype):
    layer = norms.batch_norm(kind, "norm", dtype=dtype)
    # 4096 values around 1e3: neither their sum nor their squares fit in float16.
    x = np.random.default_rng(0).normal(1e3, 1e3, (16, 16, 16, 2)).astype("float32")
    y = layer(x, training=True)
    assert y.dtype.name == dtype.removeprefix("mixed_")
    np.testing.assert_allclose(layer.moving_mean, np.mean(x, (0, 1, 2)) / 100, rtol=1e-3)
    assert np.all(np.isfinite(y)) and abs(np.std(y.numpy().astype(float)) - 1) < 0.01


def test_one_value_per_channel_is_normalised_to_the_offset():
    layer = norms.batch_norm("plain", "norm")
    y = layer(np.full((1, 1, 1, 3), 7.0, "float32"), training=True)
    np.testing.assert_array_equal(y, np.zeros((1, 1, 1, 3)))
    np.testing.assert_allclose(layer.moving_variance, [0.99] * 3)


def test_a_batch_of_unknown_size_moves_the_statistics_as_one_of_known_size():
    ours, theirs, x = _pair()
    run = tf.function(lambda x: ours(x, training=True), autograph=False)
    run.get_concrete_function(tf.TensorSpec((None, None, None, 5)))(tf.constant(x))
    theirs(x, training=True)
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match=r"got 'sync' for stem_bn"):
        norms.batch_norm("sync", "stem_bn")


class _Factors(norms.Hook):
    def __init__(self, only):
        self.only = only

    def factor(self, layer):
        return np.array([1.0, 0.0, 1.0], np.float32) if layer is self.only else None


@pytest.mark.parametrize("kind", ["plain", "synchronized"])
@pytest.mark.parametrize("training", [True, False])
def test_channels_with_the_factor_zero_are_zero_and_the_others_as_ever(kind, training):
    layer = norms.batch_norm(kind, "bn")
    images = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    layer.build(images.shape)
    layer.beta.assign([1.0, 2.0, 3.0])
    with norms.no_updates():
        whole = np.array(layer(images, training=training))
        with norms.hooked(_Factors(layer)):
            found = np.array(layer(images, training=training))
        after = np.array(layer(images, training=training))
    assert not found[..., 1].any() and whole[..., 1].any()
    np.testing.assert_allclose(found[..., ::2], whole[..., ::2], rtol=1e-6)
    np.testing.assert_array_equal(after, whole)


class _Seen(norms.Hook):
    def __init__(self, answer):
        self.answer, self.rows = answer, []

    def moves(self, layer, mean, variance):
        self.rows.append((layer, mean, variance))
        return self.answer


def test_hooks_see_the_statistics_of_the_batch_and_one_of_them_stops_the_moving():
    layer = norms.batch_norm("plain", "bn")
    images = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    layer.build(images.shape)
    no, yes = _Seen(False), _Seen(True)
    with norms.hooked(no), norms.hooked(yes):
        layer(images, training=True)
        layer(images, training=False)  # uses the moving statistics, and sees none
    assert len(no.rows) == len(yes.rows) == 1
    ((found, mean, variance),) = yes.rows
    assert found is layer
    np.testing.assert_allclose(np.array(mean), images.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(np.array(variance), images.var((0, 1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(np.array(layer.moving_mean), 0)
    with norms.hooked(yes):
        layer(images, training=True)
    assert np.any(np.array(layer.moving_mean))
