import keras
import numpy as np
import pytest

from tfdet.layers.router import Router

# Channels of the maps that the published routers look at, and their numbers of parameters.
PUBLISHED = {
    "yolov7": ((64, 256, 512, 1024, 1024), 2_075_041),
    "yolov7-x": ((80, 320, 640, 1280, 1280), 3_241_801),
    "yolov7-w6": ((64, 128, 256, 512, 768, 1024), 1_894_753),
}


def _maps(channels, batch=2, seed=0):
    random = np.random.default_rng(seed)
    sizes = [2 ** (len(channels) - i) for i in range(len(channels))]
    return {
        f"P{i}": random.normal(size=(batch, n, n + 1, c)).astype("float32")
        for i, (n, c) in enumerate(zip(sizes, channels, strict=True), 1)
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name):
    channels, parameters = PUBLISHED[name]
    router = Router()
    router.build({f"P{i}": (1, 8, 8, c) for i, c in enumerate(channels, 1)})
    assert router.count_params() == parameters


def test_easiness_is_the_written_formula_whatever_the_order_of_the_maps():
    router = Router(reduction=2)
    maps = _maps((3, 4, 5))
    easiness = np.asarray(router(maps))
    means = np.concatenate([maps[name].mean((1, 2)) for name in ("P1", "P2", "P3")], axis=1)
    w1, b1, w2, b2 = (np.asarray(v) for v in router.weights)
    logits = np.maximum(means @ w1 + b1, 0) @ w2 + b2
    np.testing.assert_allclose(easiness, 1 / (1 + np.exp(-logits[:, 0])), rtol=1e-5)
    backwards = dict(reversed(maps.items()))
    np.testing.assert_array_equal(router(backwards), easiness)


def test_easiness_stays_below_1():
    router = Router()
    maps = _maps((4, 4))
    router(maps)
    router.score.bias.assign([1e4])
    assert np.all(np.asarray(router(maps)) < 1)
    router.score.bias.assign([-1e4])
    assert np.all(np.asarray(router(maps)) == 0)


def test_initial_values_are_uniform_within_one_by_root_of_inputs():
    keras.utils.set_random_seed(0)
    router = Router()
    router.build({"P1": (1, 8, 8, 400)})
    for variable, inputs in zip(router.weights, (400, 400, 100, 100), strict=True):
        values = np.abs(np.asarray(variable))
        assert values.max() <= inputs**-0.5
        if values.size > 50:
            assert values.max() > 0.9 * inputs**-0.5
