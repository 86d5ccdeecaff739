import numpy as np
import pytest

from tfdet.layers.separable_unit import SeparableUnit


@pytest.mark.parametrize("strides", [1, 2])
def test_padding_is_symmetric_and_sizes_are_rounded_up(strides):
    x = np.random.default_rng(0).normal(size=(1, 7, 10, 3)).astype(np.float32)
    unit = SeparableUnit(5, strides, relu=False)
    assert unit(x).shape == (1, -(-7 // strides), -(-10 // strides), 5)
    depthwise = np.zeros((3, 3, 3, 1), np.float32)
    depthwise[0, 0] = 1  # looks up and to the left, past the border for the first cell
    unit.depthwise.kernel.assign(depthwise)
    unit.pointwise.kernel.assign(np.ones((1, 1, 3, 5)))
    found = np.asarray(unit(x))[0, :, :, 0]
    expected = np.pad(x[0].sum(axis=-1), ((1, 0), (1, 0)))[:-1, :-1][::strides, ::strides]
    np.testing.assert_allclose(found, expected / np.sqrt(1 + 1e-5), rtol=1e-4, atol=1e-5)


def test_inner_norms_are_for_mobilenet():
    x = np.zeros((1, 4, 4, 3), np.float32)
    plain, inner = SeparableUnit(5), SeparableUnit(5, inner_norm=True)
    plain(x), inner(x)
    assert inner.count_params() - plain.count_params() == 4 * 3
    assert SeparableUnit.from_config(inner.get_config()).get_config() == inner.get_config()
