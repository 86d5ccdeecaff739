"""An exported dynamic detector: its threshold is an input, and images take their own path."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import tfdet
from tfdet.errors import UserError
from tfdet.serving import compare, verify
from tfdet.serving.driver import ModelDriver, SavedModelDriver


@pytest.fixture(scope="module")
def scenes():
    return np.stack([verify._crowded_scene(50, 90, seed=i) for i in range(6)])


# Detections of an empty scene and two crowded ones, by both signatures, at three thresholds.
COMPARED = {"dy-efficientdet-test": 3 * 800}
KINDS = [
    "dy-efficientdet-test",
    *(
        pytest.param(f"dy-{name}-test", marks=pytest.mark.slow)
        for name in ("yolov7", "faster-rcnn", "mask-rcnn")
    ),
]


@pytest.fixture(scope="module", params=KINDS)
def model(request, make_dynamic, scenes):
    model = make_dynamic(request.param)
    model.calibrate([scenes])
    model.effort = 0.5
    return model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "saved_model"
    return path, tfdet.export(model, path)


@pytest.fixture(scope="module")
def drivers(model, exported):
    return ModelDriver(model), SavedModelDriver(exported[0])


def test_the_exporter_compares_both_ends_and_a_mixed_batch(model, exported):
    _, difference = exported
    assert difference.mismatches == ()
    wanted = COMPARED.get(model.name)
    assert difference.detections == wanted if wanted else difference.detections > 300


@pytest.mark.parametrize("rows", [[], [0], [5, 1], [0, 1, 2, 3, 4, 5]])
def test_a_batch_gives_what_each_image_gives_alone(model, drivers, scenes, rows):
    python, saved = drivers
    easiness = np.sort(python.detect(scenes, 0.0)["easiness"])
    for threshold in (0.0, *(float(easiness[i : i + 2].mean()) for i in range(5)), 1.0):
        found = saved.detect(scenes[rows], threshold)
        assert found["boxes"].shape == (len(rows), model.max_detections, 4)
        for row, i in enumerate(rows):
            expected = python.detect(scenes[i : i + 1], threshold)
            one = {name: values[row : row + 1] for name, values in found.items()}
            assert compare.compare(expected, one, f"{i} at {threshold}").mismatches == ()


def test_the_threshold_of_the_model_is_the_default(model, exported, drivers, scenes):
    hard = [driver.detect(scenes)["is_hard"] for driver in drivers]
    assert 0 < hard[0].sum() < len(scenes)
    np.testing.assert_array_equal(*hard)
    file = saved_model_pb2.SavedModel.FromString((exported[0] / "saved_model.pb").read_bytes())
    for signature in ("serving_default", "serving_encoded"):  # where TensorFlow Serving looks
        defaults = file.meta_graphs[0].signature_def[signature].defaults
        assert defaults["threshold"].float_val == [pytest.approx(model.threshold)]
    metadata = tf.saved_model.load(str(exported[0])).signatures["metadata"]()
    assert float(metadata["threshold"]) == pytest.approx(model.threshold)
    table = json.loads(metadata["calibration"].numpy())
    assert table["thresholds"] == list(model.calibration.thresholds)


@pytest.fixture(scope="module")
def served(exported):
    """Runs the signature of images."""
    loaded = tf.saved_model.load(str(exported[0]))

    def run(images, **given):
        inputs = {"threshold": -1.0, "effort": -1.0, **given}
        tensors = {name: tf.constant(value, tf.float32) for name, value in inputs.items()}
        found = loaded.signatures["serving_default"](images=tf.constant(images), **tensors)
        return {name: values.numpy() for name, values in found.items()}

    return run


def test_an_effort_of_each_image_is_an_input(served, drivers, scenes):
    python, _ = drivers
    efforts = [0.0, 0.2, 0.4, 0.6, 0.83, 1.0]
    found = served(scenes, effort=efforts)
    for i, effort in enumerate(efforts):
        expected = python.detect(scenes[i : i + 1], effort=effort)
        one = {name: values[i : i + 1] for name, values in found.items()}
        assert compare.compare(expected, one, f"{i} at {effort}").mismatches == ()


def test_an_effort_goes_before_a_threshold_and_both_before_the_models_own(served, drivers, scenes):
    scores = drivers[0].detect(scenes, 0.0)["easiness"]
    one_hard = float(np.sort(scores)[:2].mean())
    cases = [
        ({"effort": 1.0, "threshold": 0.0}, 6),
        ({"effort": 0.0, "threshold": 1.0}, 0),
        ({"threshold": one_hard}, 1),
        ({"threshold": [one_hard, *[1.0] * 5]}, 5 + int(scores[0] < one_hard)),
        ({}, 3),
    ]
    for given, hard in cases:
        assert served(scenes, **given)["is_hard"].sum() == hard


def test_efforts_of_another_number_of_images_are_refused(served, scenes):
    with pytest.raises(tf.errors.InvalidArgumentError):
        served(scenes, effort=[0.0, 1.0])
    assert served(scenes[:0], effort=0.5)["boxes"].shape[0] == 0


def test_the_exported_calibration_has_times_of_its_own(model, drivers):
    _, saved = drivers
    ours, theirs = model.calibration, saved.calibration
    assert theirs.macs == ours.macs
    assert theirs.latency_ms != ours.latency_ms
    assert min(theirs.latency_ms) > 0


def test_a_static_detector_refuses_a_threshold_and_an_effort():
    driver = ModelDriver(tfdet.create("fcos-test", num_classes=3))
    for given in ({"threshold": 0.5}, {"effort": 0.5}):
        with pytest.raises(UserError, match="the model is static"):
            driver.detect(np.zeros((1, 64, 64, 3), np.uint8), **given)


def test_an_effort_is_met_by_model_and_export(drivers, scenes):
    for driver in drivers:
        for effort in (0.0, 0.5, 1.0):
            hard = driver.detect(scenes, effort=effort)["is_hard"]
            assert abs(hard.mean() - effort) <= 1 / len(scenes)


def test_a_wrong_path_is_a_mismatch(drivers, scenes):
    found = drivers[0].detect(scenes[:2], 0.0)
    other = {name: values.copy() for name, values in found.items()}
    other["is_hard"][1] = True
    sentences = compare.compare(found, other, "paths").mismatches
    assert sentences == ("paths, image 1: is_hard should be False, got True",)
