import keras
import numpy as np
import pytest

from tfdet.layers.rep_conv import RepConv


@pytest.mark.parametrize(("channels", "branches"), [(4, 3), (6, 2)])
def test_branches_are_added_before_the_activation(channels, branches):
    layer = RepConv(4)
    x = np.random.default_rng(0).normal(size=(2, 5, 5, channels)).astype(np.float32)
    found = layer(x)
    maps = [layer.dense(x), layer.pointwise(x)]
    if layer.identity is not None:
        maps.append(layer.identity(x))
    assert len(maps) == branches
    np.testing.assert_allclose(found, keras.activations.silu(sum(maps)), atol=1e-6)


def test_branches_have_no_activation_and_no_bias():
    layer = RepConv(4)
    layer(np.zeros((1, 3, 3, 2), np.float32))
    for branch in (layer.dense, layer.pointwise):
        assert branch.activation is None
        assert not branch.conv.use_bias
