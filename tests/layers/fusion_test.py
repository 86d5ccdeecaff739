import keras
import numpy as np
import pytest

from tfdet.layers.fusion import METHODS, Fusion, factors_of


def _maps(count=3, dtype="float32"):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(2, 3, 4, 5)).astype(dtype) for _ in range(count)]


def _fused(method, weights, maps):
    layer = Fusion(method)
    layer.build([m.shape for m in maps])
    for variable, weight in zip(layer.weights, weights, strict=False):
        variable.assign(np.broadcast_to(weight, variable.shape))
    return layer(maps)


@pytest.mark.parametrize(
    ("method", "factors"),
    [
        ("fast", [2 / 5.0001, 0, 3 / 5.0001]),
        ("softmax", np.exp([2, -1, 3]) / np.exp([2, -1, 3]).sum()),
        ("unbounded", [2, -1, 3]),
        ("sum", [1, 1, 1]),
        ("channel_fast", [2 / 5.0001, 0, 3 / 5.0001]),
        ("channel_softmax", np.exp([2, -1, 3]) / np.exp([2, -1, 3]).sum()),
    ],
)
def test_weights_become_the_factors_of_the_paper(method, factors):
    maps = _maps()
    expected = sum(f * m for f, m in zip(factors, maps, strict=True))
    np.testing.assert_allclose(_fused(method, [2, -1, 3], maps), expected, atol=1e-5)


def test_channel_methods_weigh_each_channel_on_its_own():
    maps = _maps(2)
    weights = [np.array([1, 0, 1, 0, 1.0]), np.array([0, 1, 0, 1, 0.0])]
    fused = _fused("channel_fast", weights, maps)
    np.testing.assert_allclose(fused[..., 0], maps[0][..., 0] / 1.0001, atol=1e-6)
    np.testing.assert_allclose(fused[..., 1], maps[1][..., 1] / 1.0001, atol=1e-6)


def test_all_negative_weights_stay_finite():
    np.testing.assert_array_equal(_fused("fast", [-1, -2, -3], _maps()), np.zeros((2, 3, 4, 5)))


@pytest.mark.parametrize("method", METHODS)
def test_factors_of_several_fusions_are_those_of_each_alone(method):
    rng = np.random.default_rng(0)
    fusions = [Fusion(method) for _ in range(3)]
    for fusion, count in zip(fusions, (2, 3, 2), strict=True):
        fusion.build([(2, 3, 4, 5)] * count)
        fusion.set_weights([rng.normal(0, 50, w.shape) for w in fusion.weights])
    for found, fusion in zip(factors_of(fusions), fusions, strict=True):
        (expected,) = factors_of([fusion])
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        maps = _maps(len(fusion.weights) or 2)
        np.testing.assert_allclose(fusion(maps, factors=found), fusion(maps), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_keeps_the_factors(method):
    layer = Fusion(method, dtype="mixed_float16")
    maps = _maps(2, "float16")
    fused = layer(maps)
    assert keras.backend.standardize_dtype(fused.dtype) == "float16"
    assert all(w.dtype == "float32" for w in layer.weights)
    factor = 1 if method in ("sum", "unbounded") else 0.5
    np.testing.assert_allclose(fused, factor * (maps[0] + maps[1]), atol=2e-2)


def test_unknown_methods_are_named():
    with pytest.raises(ValueError, match=r"fast, .*; got 'slow'"):
        Fusion("slow")
