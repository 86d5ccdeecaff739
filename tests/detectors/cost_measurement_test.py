"""The cost that is measured for an effort is met; a CADDet shows it."""

import time

import keras
import numpy as np
import pytest

import tfdet
from tfdet.backbones.grid import CLOSED
from tfdet.detectors import cost_measurement
from tfdet.errors import UserError

IMAGES = 12
GRID = {"layers": 3, "channels": (8, 10, 12)}


@pytest.fixture(scope="module")
def images():
    """Of different contrast and brightness, so that routers tell them apart."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (IMAGES, 64, 64, 3))
    shape = (IMAGES, 1, 1, 1)
    pixels = rng.uniform(60, 200, shape) + rng.uniform(5, 60, shape) * noise
    return pixels.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def model(images):
    """A tiny CADDet with gates of all sizes, calibrated."""
    keras.utils.set_random_seed(0)
    model = tfdet.create("caddet-test", num_classes=3, supernet=GRID)
    rng = np.random.default_rng(1)
    for router in model.backbone.routers:
        router.score.kernel.assign(rng.normal(0, 0.7, router.score.kernel.shape))
        router.score.bias.assign(rng.normal(0.6, 0.3, router.score.bias.shape))
    model.calibrate([images[:5], (images[5:], {})])
    return model


def test_the_ends_are_those_of_effort(model, images):
    table = model.calibration
    assert table.images == IMAGES
    assert (table.thresholds[0], table.thresholds[-1]) == (1.0, CLOSED)
    for threshold, macs in ((1.0, model.floor), (CLOSED, table.macs[-1])):
        model.threshold = threshold
        found = model.predict(images, verbose=0)["macs"]
        assert found.mean() == pytest.approx(macs, rel=1e-4)
        assert table.macs[0] <= macs <= model.cost_ends[1]


@pytest.mark.parametrize("position", [0.1, 0.35, 0.6, 0.9])
def test_a_target_cost_is_met(model, images, position):
    least, most = model.calibration.macs[0], model.calibration.macs[-1]
    target = least + position * (most - least)
    model.threshold = model.threshold_for(target_madds=target)
    found = model.predict(images, verbose=0)["macs"].mean()
    # A node, which closes for many images at once, is a ninth of this grid.
    assert abs(found - target) < 0.2 * (most - least)


def test_times_of_a_part_of_the_grid_are_scaled_to_all_of_it(model, images, monkeypatch):
    monkeypatch.setattr(cost_measurement, "time_paths", lambda *ways: (10.0, 30.0))
    least, most = model.cost_ends

    def run(canvas, threshold):
        return {"macs": np.float32(least + 0.4 * (most - least)) + 0 * canvas[0, 0, 0]}

    times = cost_measurement.least_and_most(model, run, [np.zeros((4, 4, 3), np.float32)])
    assert times == pytest.approx((10.0, 10.0 + 20.0 / 0.4), rel=1e-4)


def test_the_table_is_saved_with_the_model(model, tmp_path):
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").calibration == model.calibration


def test_no_image_and_no_table_are_errors():
    model = tfdet.create("caddet-test", num_classes=3, supernet=GRID)
    with pytest.raises(UserError, match="at least one image"):
        model.calibrate([])
    with pytest.raises(UserError, match="has not been calibrated"):
        model.threshold_for(target_madds=1e6)


def test_paths_are_timed_apart():
    def run(canvas, threshold):
        assert canvas.shape == (1, 8, 8, 3)
        time.sleep(0.03 if float(threshold) == 1 else 0.01)
        return {"count": canvas[:, 0, 0, 0]}

    early, late = cost_measurement.time_paths(run, 2 * [np.zeros((8, 8, 3), np.uint8)], (0.0, 1.0))
    assert early >= 10 and late >= 30
    assert early < late
