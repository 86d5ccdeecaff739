"""An exported CADDet: each image of a batch takes its own route there too."""

import keras
import numpy as np
import pytest

import tfdet
from tfdet.serving import compare, verify
from tfdet.serving.driver import ModelDriver, SavedModelDriver


@pytest.fixture(scope="module")
def scenes():
    scenes = [verify._crowded_scene(50, 90, seed=i) for i in range(3)]
    return np.stack([*scenes, verify._empty_scene(50, 90)])


@pytest.fixture(scope="module")
def model():
    """A tiny model whose routers open about half of the gates, image by image."""
    keras.utils.set_random_seed(0)
    changes = {"layers": 3, "channels": (8, 10, 12), "stem_filters": (4, 6, 8)}
    model = tfdet.create("caddet-test", num_classes=3, supernet=changes)
    rng = np.random.default_rng(1)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.6, 1.6, variable.shape))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
    for router in model.backbone.routers:
        router.score.kernel.assign(rng.normal(0, 3, router.score.kernel.shape))
        router.score.bias.assign(rng.normal(0.6, 0.5, router.score.bias.shape))
    predictor = model.head.predictor
    for variable in predictor.weights:
        if variable.name == "kernel":
            variable.assign(8 * np.asarray(variable))
    return model


@pytest.fixture(scope="module")
def drivers(model, scenes, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "saved_model"
    model.threshold = 0.25
    model.calibrate([scenes])
    difference = tfdet.export(model, path)
    assert difference.mismatches == ()
    assert difference.detections > 0
    return ModelDriver(model), SavedModelDriver(path)


def test_a_batch_gives_what_each_image_gives_alone(drivers, scenes):
    python, saved = drivers
    assert saved.threshold == pytest.approx(0.25)
    for threshold in (0.0, 0.5, 1.0):
        for rows in ([], [3], [0, 1, 2, 3], [3, 2, 1, 0, 0, 1, 2, 3]):
            found = saved.detect(scenes[rows], threshold)
            assert found["boxes"].shape == (len(rows), 100, 4)
            for row, i in enumerate(rows):
                expected = python.detect(scenes[i : i + 1], threshold)
                one = {name: values[row : row + 1] for name, values in found.items()}
                assert compare.compare(expected, one, f"{i} at {threshold}").mismatches == ()
                np.testing.assert_allclose(one["gates"], expected["gates"], atol=1e-4)


def test_routes_and_costs_follow_images_and_threshold(model, drivers, scenes):
    _, saved = drivers
    macs = [saved.detect(scenes, threshold)["macs"] for threshold in (0.0, 0.5, 1.0)]
    assert len(set(macs[0])) > 1
    assert macs[0].mean() > macs[1].mean() > macs[2].mean()
    np.testing.assert_array_equal(macs[2], np.float32(model.floor))


def test_an_export_knows_its_grid(model, drivers):
    assert [driver.route_map for driver in drivers] == [model.config.supernet] * 2


def test_the_exported_table_meets_a_cost(model, drivers, scenes):
    _, saved = drivers
    ours, theirs = model.calibration, saved.calibration
    assert (theirs.thresholds, theirs.macs) == (ours.thresholds, ours.macs)
    assert theirs.latency_ms != ours.latency_ms
    least, most = theirs.macs[0], theirs.macs[-1]
    for position in (0.0, 0.5, 1.0):
        target = least + position * (most - least)
        macs = saved.detect(scenes, theirs.threshold_for(target_madds=target))["macs"].mean()
        # Four images have few gates, of which many close at once.
        assert abs(macs - target) < 0.15 * (most - least)
