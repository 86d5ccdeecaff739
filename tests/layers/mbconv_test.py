import keras
import numpy as np
import pytest

from tfdet.layers.mbconv import MBConv, SqueezeExcite


def _input(channels=8):
    return np.random.default_rng(0).normal(size=(4, 6, 6, channels)).astype("float32")


def test_the_squeeze_is_measured_on_the_input_and_not_on_the_inner_width():
    block = MBConv(16, expand=6)
    block(_input(8))
    assert block.se.reduce.kernel.shape == (1, 1, 48, 2)
    assert block.se.expand.kernel.shape == (1, 1, 2, 48)


def test_expand_1_has_no_expansion_and_ratio_0_no_squeeze():
    block = MBConv(16, expand=1, se_ratio=0)
    block(_input())
    assert block.expand_conv is None and block.se is None
    assert [v.shape for v in block.trainable_weights] == [
        *[(3, 3, 8, 1), (8,), (8,)],
        *[(1, 1, 8, 16), (16,), (16,)],
    ]


def test_only_projections_and_depthwise_convolutions_lack_a_bias():
    block = MBConv(8)
    block(_input())
    biased = {v.path.split("/")[-2] for v in block.weights if v.name == "bias"}
    assert biased == {"reduce", "expand"}


@pytest.mark.parametrize(("filters", "strides"), [(16, 1), (8, 2)])
def test_a_residual_needs_equal_shapes(filters, strides):
    block = MBConv(filters, strides=strides)
    block(_input())
    block.project_bn.gamma.assign(np.zeros(filters))
    np.testing.assert_array_equal(
        block(_input()), np.zeros((4, 6 // strides, 6 // strides, filters))
    )


def test_the_dropped_branch_leaves_the_input_and_the_kept_one_is_scaled_up():
    keras.utils.set_random_seed(0)
    block = MBConv(8, drop_rate=0.5, batch_norm="frozen")
    x = np.tile(_input()[:1], (64, 1, 1, 1))
    branch = np.asarray(block(x) - x)[0]
    added = np.asarray(block(x, training=True) - x)
    dropped = np.all(added == 0, axis=(1, 2, 3))
    assert 10 < dropped.sum() < 54
    for kept in added[~dropped]:
        np.testing.assert_allclose(kept, 2 * branch, atol=1e-4)


def test_initial_kernels_have_the_published_deviation():
    keras.utils.set_random_seed(0)
    block = MBConv(64, kernel_size=5, expand=6)
    block(_input(64))
    for layer, fan in ((block.depthwise_conv, 25), (block.project_conv, 64)):
        np.testing.assert_allclose(np.std(layer.kernel), np.sqrt(2 / fan), rtol=0.05)


def test_the_gate_is_one_number_per_channel():
    layer = SqueezeExcite(2)
    x = _input()
    gate = np.asarray(layer(x)) / x
    np.testing.assert_allclose(gate, np.broadcast_to(gate[:, :1, :1], gate.shape), rtol=1e-3)
    assert np.all((gate > 0) & (gate < 1))
