import numpy as np
import pytest
import tensorflow as tf

from tfdet.losses.focal import focal_loss


def slow_focal(logits, labels, alpha, gamma, smoothing):
    """The published formula on one-hot targets, per logit, in float64."""
    logits = tf.cast(logits, tf.float64)
    y = tf.one_hot(labels, logits.shape[-1], dtype=tf.float64)
    p = tf.sigmoid(logits)
    p_t = y * p + (1 - y) * (1 - p)
    alpha_t = y * alpha + (1 - y) * (1 - alpha)
    aim = y * (1 - smoothing) + 0.5 * smoothing
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(aim, logits)
    return alpha_t * (1 - p_t) ** gamma * cross_entropy


def random_case(seed=0, shape=(2, 30, 5)):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, shape).astype(np.float32)
    return tf.constant(logits), tf.constant(rng.integers(-1, shape[-1], shape[:-1]), tf.int32)


def loss_and_gradient(function, logits):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = function(logits)
    return loss, tape.gradient(loss, logits)


@pytest.mark.parametrize(
    ("logit", "label", "expected"), [(0.5, 0, 0.02749), (-1, -1, 0.03277), (2, -1, 1.31865)]
)
def test_published_values(logit, label, expected):
    loss = focal_loss(np.float32([[logit]]), np.int32([label]))
    np.testing.assert_allclose(loss, expected, atol=5e-6)


@pytest.mark.parametrize(
    ("alpha", "gamma", "smoothing"), [(0.25, 1.5, 0.0), (0.25, 2.0, 0.1), (0.6, 0.0, 0.3)]
)
def test_value_and_gradient_equal_the_formula(alpha, gamma, smoothing):
    logits, labels = random_case()
    loss, gradient = loss_and_gradient(
        lambda x: 3.0 * focal_loss(x, labels, alpha, gamma, smoothing), logits
    )
    expected, expected_gradient = loss_and_gradient(
        lambda x: 3.0 * tf.reduce_sum(slow_focal(x, labels, alpha, gamma, smoothing)), logits
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_extreme_logits_have_finite_loss_and_gradient():
    logits = tf.constant([[1e4, -1e4, 0.0], [-1e4, 1e4, 100.0]])
    labels = tf.constant([1, -1])
    loss, gradient = loss_and_gradient(lambda x: focal_loss(x, labels), logits)
    np.testing.assert_allclose(
        loss, tf.reduce_sum(slow_focal(logits, labels, 0.25, 1.5, 0.0)), rtol=1e-5
    )
    assert np.isfinite(gradient).all()


def test_a_broken_logit_is_not_hidden():
    assert np.isnan(focal_loss(np.float32([[np.nan, 0.0]]), np.int32([-1])))


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (1, 4, 1)])
def test_any_number_of_images_anchors_and_classes(shape):
    logits, labels = random_case(shape=shape)
    expected = tf.reduce_sum(slow_focal(logits, labels, 0.25, 1.5, 0.0))
    np.testing.assert_allclose(focal_loss(logits, labels), expected, rtol=1e-5)


def test_compiles_with_xla():
    logits, labels = random_case()
    compiled = tf.function(
        lambda x: loss_and_gradient(lambda z: focal_loss(z, labels), x),
        jit_compile=True,
        autograph=False,
    )
    loss, gradient = loss_and_gradient(lambda x: focal_loss(x, labels), logits)
    np.testing.assert_allclose(compiled(logits)[0], loss, rtol=1e-5)
    np.testing.assert_allclose(compiled(logits)[1], gradient, rtol=1e-4, atol=1e-6)
