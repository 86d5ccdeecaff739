import keras
import numpy as np
import pytest

from tfdet.layers import initializers


@pytest.mark.parametrize("shape", [(3, 3, 64, 48), (1, 1, 128, 96)])
def test_fan_out_normal_has_its_deviation(shape):
    values = np.asarray(keras.initializers.get(initializers.FAN_OUT_NORMAL)(shape))
    expected = np.sqrt(2 / (shape[0] * shape[1] * shape[3]))
    assert values.std() == pytest.approx(expected, rel=0.02)
    assert np.abs(values).max() > 3 * expected  # not truncated


def test_layers_do_not_draw_the_same_numbers():
    layers = [keras.layers.Conv2D(4, 3, kernel_initializer=initializers.FAN_OUT_NORMAL)] * 1
    layers.append(keras.layers.Conv2D(4, 3, kernel_initializer=initializers.FAN_OUT_NORMAL))
    for layer in layers:
        layer.build((None, 8, 8, 4))
    assert not np.array_equal(layers[0].kernel, layers[1].kernel)


def test_uniform_values_are_pytorchs():
    inputs = 3 * 3 * 64
    kernel = np.asarray(initializers.uniform_kernel()((3, 3, 64, 64)))
    bias = np.asarray(initializers.uniform_bias(inputs)((4096,)))
    for values in (kernel, bias):
        assert np.abs(values).max() == pytest.approx(inputs**-0.5, rel=0.01)
        assert values.std() == pytest.approx(inputs**-0.5 / np.sqrt(3), rel=0.03)
