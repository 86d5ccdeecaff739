import keras
import numpy as np
import pytest

from tfdet.layers.conv_bn import ConvBN
from tfdet.layers.merging import copy_merged
from tfdet.layers.rep_conv import RepConv
from tfdet.layers.symmetric import SymmetricConv2D


def stir(layer, seed=0):
    """Gives a layer weights under which no part of it is nearly the identity."""
    random = np.random.default_rng(seed)
    for variable in layer.weights:
        low, high = (0.5, 2.0) if variable.name in ("gamma", "moving_variance") else (-1.0, 1.0)
        variable.assign(random.uniform(low, high, variable.shape))


def picture(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def test_strided_convolutions_pad_both_sides():
    layer = ConvBN(3, 3, strides=2)
    x = picture(1, 8, 6, 2)
    layer(x)
    stir(layer)
    plain = SymmetricConv2D(3, 3, strides=2, use_bias=False)
    plain(x)
    plain.set_weights(layer.conv.get_weights())
    expected = keras.activations.silu(layer.bn(plain(x)))
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)
    same = keras.ops.conv(x, layer.conv.kernel, 2, "same")
    assert np.abs(np.asarray(layer.bn(same) - layer.bn(plain(x)))).max() > 0.1


def test_it_normalises_as_yolov7_does():
    layer = ConvBN(3)
    layer(picture(1, 4, 4, 2))
    assert (layer.bn.epsilon, layer.bn.momentum) == (1e-3, 0.97)


def test_kernels_start_uniform_in_the_root_of_their_inputs():
    layer = ConvBN(64, 3)
    layer(picture(1, 4, 4, 16))
    limit = 1 / np.sqrt(16 * 9)
    kernel = np.asarray(layer.conv.kernel)
    assert np.abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)


@pytest.mark.parametrize(
    "make", [lambda **kw: ConvBN(4, 3, 2, **kw), lambda **kw: RepConv(4, **kw)]
)
@pytest.mark.parametrize("channels", [4, 6])
def test_the_merged_form_gives_the_same_and_has_one_convolution(make, channels):
    x = picture(2, 6, 8, channels)
    trained, merged = make(), make(merged=True)
    trained(x), merged(x)
    stir(trained)
    copy_merged(trained, merged)
    np.testing.assert_allclose(merged(x), trained(x), atol=1e-5)
    assert [tuple(v.shape) for v in merged.weights] == [(3, 3, channels, 4), (4,)]


@pytest.mark.parametrize("layer", [ConvBN(4, 3, 2, None, "frozen", True), RepConv(4, "frozen")])
def test_configurations_make_the_same_layer(layer):
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config
