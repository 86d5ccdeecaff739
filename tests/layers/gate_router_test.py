import numpy as np
import pytest

from tfdet.layers.gate_router import GateRouter, quarters


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 3), (1, 1), (1, 4)])
def test_halves_of_odd_sides_share_the_middle(height, width):
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    found = np.asarray(quarters(x))
    assert found.shape == (2, 2, 2, 3)
    # PyTorch's adaptive pooling: cell i is the rows floor(i * H / 2) to ceil((i + 1) * H / 2).
    for i in range(2):
        for j in range(2):
            rows = slice(i * height // 2, -(-(i + 1) * height // 2))
            columns = slice(j * width // 2, -(-(j + 1) * width // 2))
            expected = x[:, rows, columns].mean(axis=(1, 2))
            np.testing.assert_allclose(found[:, i, j], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", ["tanh", "sigmoid"])
def test_gates_are_closed_by_tanh_only_and_stay_below_one(function):
    router = GateRouter(3, function=function)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 6)).astype(np.float32)
    router(x)
    router.score.kernel.assign(np.zeros((3, 3)))
    router.score.bias.assign([-2.0, 1.5, 100.0])
    gates = np.asarray(router(x))
    assert gates.dtype == np.float32 and np.all(gates < 1)
    expected = {"tanh": [0, np.tanh(1.5), 1], "sigmoid": [0.1192, 0.81757, 1]}[function]
    np.testing.assert_allclose(gates[0], expected, atol=1e-4)
    np.testing.assert_allclose(router(x, training=True)[0], gates[0], rtol=1e-6)


def test_half_of_the_channels_are_hidden_without_a_bias():
    router = GateRouter(3)
    router(np.zeros((1, 4, 4, 64), np.float32))
    shapes = [tuple(w.shape) for w in router.trainable_weights]
    assert shapes == [(1, 1, 64, 32), (32,), (32,), (32, 3), (3,)]
    np.testing.assert_array_equal(router.score.bias, [1.5, 1.5, 1.5])
