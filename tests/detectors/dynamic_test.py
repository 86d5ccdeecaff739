"""A dynamic detector that `tfdet` does not know goes through all of its commands."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tfdet
from tests.detectors.brightness import NAME, Brightness
from tfdet.detectors.dynamic import reported
from tfdet.serving.driver import SavedModelDriver

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def images():
    """Of different brightness, in no order."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 40, (11, 64, 64, 3))
    shift = rng.permutation(np.linspace(0, 200, 11))[:, None, None, None]
    return (noise + shift).astype(np.uint8)


@pytest.fixture(scope="module")
def model(images):
    keras.utils.set_random_seed(0)
    model = tfdet.create(NAME)
    model.calibrate([images[:4], (images[4:], {})])
    return model


def test_the_effort_is_the_expected_cost(model, images):
    least, most = model.cost_ends
    assert 0 < least < most
    table = model.calibration
    assert (table.images, table.macs[0], table.macs[-1]) == (len(images), least, most)
    assert min(table.latency_ms) > 0  # their order is noise: an image takes milliseconds
    for effort in (0.0, 0.3, 0.5, 0.8, 1.0):
        model.effort = effort
        found = model.predict(images, verbose=0)
        # The table tries no threshold within the widest gap of four images.
        assert found["macs"].mean() == pytest.approx(least + effort * (most - least), rel=0.2)
        assert model.effort == pytest.approx(effort, abs=1e-5)
        dark = found["brightness"] < model.threshold if 0 < effort < 1 else np.full(11, effort == 1)
        np.testing.assert_array_equal(found["is_hard"], dark)
    middle = (least + most) / 2
    assert model.effort_for(target_madds=middle) == 0.5
    assert model.threshold_for(target_madds=middle) == model.threshold_for(effort=0.5)
    found = model.detect(images, effort=0.5)
    assert set(reported(found)) == {"brightness", "is_hard", "macs"}


def test_skipped_work_is_skipped(model, images, monkeypatch):
    seen = {"small": [], "large": []}
    for name, rows in seen.items():
        part = getattr(model, name)
        run = part.detect_fitted
        monkeypatch.setattr(
            part, "detect_fitted", lambda x, run=run, rows=rows: (rows.append(len(x)), run(x))[1]
        )
    canvas = tf.cast(images, tf.float32)
    for effort, expected in ((0, ([11], [])), (1, ([], [11]))):
        model.detect_fitted(canvas, effort=effort)
        assert tuple(seen.values()) == expected
        for rows in seen.values():
            rows.clear()
    hard = np.asarray(model.detect_fitted(canvas, effort=0.5)["is_hard"])
    assert 0 < hard.sum() < 11
    assert (seen["small"], seen["large"]) == ([11 - hard.sum()], [hard.sum()])


def test_threshold_and_calibration_are_saved_with_the_model(model, images, tmp_path):
    model.threshold = 0.3
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, Brightness)
    assert again.threshold == pytest.approx(0.3) and again.calibration == model.calibration
    found, expected = again.detect(images), model.detect(images)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def command(name, *flags):
    """Runs a command of its own process, from the folder whose modules the name begins with."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path))}
    words = [sys.executable, "-m", f"tfdet.cli.{name}", *map(str, flags)]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_it_is_trained_calibrated_measured_exported_and_served(tmp_path):
    run, saved = f"--model_dir={tmp_path / 'run'}", tmp_path / "saved_model"
    changes = {
        "data.train": "shapes:train:8",
        "data.val": "shapes:val:6",
        "train.batch_size": 4,
        "train.num_epochs": 1,
        "train.warmup_epochs": 0.5,
        "eval.interval": 1,
        "eval.pictures": 1,
    }
    hparams = ",".join(f"{key}={value}" for key, value in changes.items())
    command("train", f"--model_name={NAME}", f"--hparams={hparams}", run)
    row = json.loads((tmp_path / "run" / "logs" / "history.jsonl").read_text().splitlines()[-1])
    assert row["large_class_loss"] > 0 and row["AP"] >= 0
    assert "effort" in command("eval", run, "--calibrate")
    numbers, figure = tmp_path / "curve.json", tmp_path / "curve.png"
    command("eval", run, "--tradeoff", f"--json_out={numbers}", f"--figure_out={figure}")
    assert len(json.loads(numbers.read_text())["curve"]) == 11
    assert Image.open(figure).size[0] > 800
    said = command("eval", run, "--effort=1")
    assert "100.0 % of the images were hard" in said
    command("export", run, f"--output={saved}")
    driver = SavedModelDriver(saved)
    assert driver.calibration.images == 6
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, grey in enumerate((20, 240)):
        Image.new("RGB", (80, 60), (grey,) * 3).save(photos / f"{i}.png")
    for effort, expected in ((0, [False, False]), (0.5, [True, False]), (1, [True, True])):
        flags = (f"--input={photos}", f"--output_dir={tmp_path / 'found'}", f"--effort={effort}")
        command("infer", f"--saved_model={saved}", *flags)
        found = json.loads((tmp_path / "found" / "detections.json").read_text())
        assert [image["is_hard"] for image in found] == expected
        assert [round(image["brightness"], 1) for image in found] == [0.2, 0.8]
        ends = (driver.calibration.macs[0], driver.calibration.macs[-1])
        assert [image["macs"] for image in found] == [ends[is_hard] for is_hard in expected]
