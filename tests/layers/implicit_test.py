import keras
import numpy as np

from tfdet.layers.implicit import ImplicitAdd, ImplicitMultiply


def test_they_add_and_multiply_per_channel():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    vector = np.arange(5, dtype=np.float32)
    for layer, expected in ((ImplicitAdd(), x + vector), (ImplicitMultiply(), x * vector)):
        layer(x)
        layer.set_weights([vector])
        np.testing.assert_allclose(layer(x), expected)
        assert layer(keras.KerasTensor((2, 3, 4, 5))).shape == x.shape


def test_they_start_near_the_identity():
    x = np.zeros((1, 1, 1, 4000), np.float32)
    for layer, start in ((ImplicitAdd(), 0.0), (ImplicitMultiply(), 1.0)):
        layer(x)
        (values,) = layer.get_weights()
        np.testing.assert_allclose([values.mean(), values.std()], [start, 0.02], atol=2e-3)
