import math

import keras
import numpy as np
import pytest

from tfdet.training import averaging


def small_model():
    inputs = keras.Input((3,))
    hidden = keras.layers.BatchNormalization(name="norm")(keras.layers.Dense(4)(inputs))
    return keras.Model(inputs, keras.layers.Dropout(0.5)(hidden))


@pytest.mark.parametrize(
    ("ramp", "decay", "updates", "published"),
    [
        ("fraction", 0.3, 6, lambda step: min(0.3, (1 + step) / (10 + step))),
        ("exponential", 0.9999, 300, lambda step: 0.9999 * (1 - math.exp(-(step + 1) / 2000))),
    ],
)
def test_averages_follow_the_published_ramps(ramp, decay, updates, published):
    model = small_model()
    averages = averaging.MovingAverages(model, decay, ramp)
    expected = [w.numpy().astype(np.float64) for w in averages.weights]
    rng = np.random.default_rng(0)
    for step in range(updates):
        for variable in averages.weights:
            variable.assign(rng.normal(size=variable.shape))
        decay = published(step)
        expected = [
            decay * old + (1 - decay) * v.numpy()
            for old, v in zip(expected, averages.weights, strict=True)
        ]
        averages.update(step)
    for average, value in zip(averages.averages, expected, strict=True):
        np.testing.assert_allclose(average.numpy(), value, rtol=1e-5, atol=1e-6)


def test_batch_norm_statistics_are_averaged():
    averages = averaging.MovingAverages(small_model(), decay=0.9)
    names = [v.path for v in averages.weights]
    assert "norm/moving_mean" in names
    assert "norm/moving_variance" in names


def test_own_weights_come_back_bit_for_bit():
    model = small_model()
    averages = averaging.MovingAverages(model, decay=0.5)
    for variable in model.weights:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape) / 3)
    averages.update(3)
    own = [v.numpy() for v in model.weights]
    with averages.applied():
        for variable, average in zip(averages.weights, averages.averages, strict=True):
            np.testing.assert_array_equal(variable.numpy(), average.numpy())
    for variable, value in zip(model.weights, own, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_own_weights_come_back_after_an_error():
    model = small_model()
    averages = averaging.MovingAverages(model, decay=0.5)
    model.weights[0].assign(np.ones(model.weights[0].shape))
    with pytest.raises(RuntimeError, match="no AP today"), averages.applied():
        raise RuntimeError("no AP today")
    np.testing.assert_array_equal(model.weights[0].numpy(), np.ones(model.weights[0].shape))
