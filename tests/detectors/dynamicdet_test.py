import collections
import dataclasses
import glob
import importlib.util
import os
import subprocess
import sys

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

import tfdet
from tfdet.detectors import routing
from tfdet.detectors.dynamicdet import DynamicDetector
from tfdet.errors import UserError
from tfdet.serving import compare

POOL = 9
# All kinds of cascades; the last has shared heads and masks.
KINDS = [
    "dy-efficientdet-test",
    pytest.param("dy-yolov7-test", marks=pytest.mark.slow),
    pytest.param("dy-faster-rcnn-test", marks=pytest.mark.slow),
    pytest.param("dy-mask-rcnn-test", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=KINDS)
def model(request, make_dynamic):
    return make_dynamic(request.param)


@pytest.fixture(scope="module")
def images():
    """Canvases from almost plain to noisy, so that their scores differ.

    In a plain one places are alike, and rounding decides which of them proposals are made of.
    """
    random = np.random.default_rng(1)
    noise = random.uniform(0, 255, (POOL, 64, 64, 3))
    plain = noise.mean(axis=(1, 2), keepdims=True)
    share = np.linspace(0.1, 1, POOL)[:, None, None, None]
    return (share * noise + (1 - share) * plain).astype("float32")


@pytest.fixture(scope="module")
def detect(model):
    """The routed inference as one graph for all batch sizes and thresholds."""
    return tf.function(
        lambda canvas, threshold: model.detect_fitted(canvas, threshold),
        input_signature=[tf.TensorSpec([None, 64, 64, 3]), tf.TensorSpec([])],
        autograph=False,
    )


@pytest.fixture(scope="module")
def singles(model, detect, images):
    """Detections of each image alone by either path, and the scores."""
    early, late = (
        [detect(tf.constant(images[i : i + 1]), tf.constant(t)) for i in range(POOL)]
        for t in (0.0, 1.0)
    )
    return early, late, np.array([found["easiness"][0] for found in early])


def _between(easiness):
    """Thresholds that no score is near to: rounding may not decide the path."""
    order = np.sort(easiness)
    gaps = np.diff(order)
    return [float(order[i : i + 2].mean()) for i in np.flatnonzero(gaps > 1e-4)]


def test_paths_of_single_images_are_the_two_detectors(model, images, singles):
    early, late, easiness = singles
    assert len(_between(easiness)) >= POOL // 2
    raw = model(images, training=False)
    for role, found in (("first", early), ("second", late)):
        expected = model.heads_of(role).decode(raw[role], (64, 64))
        for i in range(POOL):
            row = {name: np.asarray(values)[i : i + 1] for name, values in expected.items()}
            assert compare.compare(row, found[i], role).mismatches == ()


@hypothesis.settings(max_examples=12, deadline=None, derandomize=True)
@hypothesis.given(
    chosen=st.lists(st.integers(0, POOL - 1), max_size=6), position=st.floats(0, 1, width=32)
)
@hypothesis.example(chosen=[], position=0.5)
@hypothesis.example(chosen=[3], position=0.0)
@hypothesis.example(chosen=[0, 4, 8, 2], position=0.0)
@hypothesis.example(chosen=[0, 4, 8, 2], position=1.0)
@hypothesis.example(chosen=[8, 0, 7, 1, 6, 2], position=0.5)
def test_a_batch_gives_what_each_image_gives_alone(
    model, detect, images, singles, chosen, position
):
    early, late, easiness = singles
    ends = [0.0, *_between(easiness), 1.0]
    threshold = ends[round(position * (len(ends) - 1))]
    found = detect(tf.constant(images[chosen]), tf.constant(threshold))
    assert found["boxes"].shape == (len(chosen), model.max_detections, 4)
    assert ("masks" in found) == (model.mask_size > 0)
    for row, i in enumerate(chosen):
        expected = late[i] if easiness[i] < threshold else early[i]
        one = {name: values[row : row + 1] for name, values in found.items()}
        assert compare.compare(expected, one, f"image {i} at {threshold}").mismatches == ()


def test_eager_detection_is_the_same(model, detect, images, singles):
    threshold = _between(singles[2])[3]
    found, eager = (
        run(tf.constant(images), tf.constant(threshold)) for run in (detect, model.detect_fitted)
    )
    assert 0 < np.count_nonzero(found["is_hard"]) < POOL
    assert compare.compare(found, eager, "eager").mismatches == ()


def test_the_threshold_is_set_without_building_again(model, images, singles):
    traced = []

    @tf.function(autograph=False)
    def run(canvas):
        traced.append(1)
        return model.detect_fitted(canvas)["is_hard"]

    hard = []
    for model.threshold in (0.0, 1.0, _between(singles[2])[2]):
        hard.append(run(tf.constant(images)).numpy().tolist())
    assert len(traced) == 1
    assert not any(hard[0]) and all(hard[1]) and 0 < sum(hard[2]) < POOL
    with pytest.raises(UserError, match=r"threshold must be between 0 and 1, got 1\.5"):
        model.threshold = 1.5


@pytest.mark.parametrize("easiness", [0.0, 1.0, np.nan, 0.3])
def test_the_ends_of_effort_hold_for_any_score(easiness):
    scores = np.array([easiness], "float32")
    assert not np.asarray(routing.is_hard(scores, 0.0))[0]
    assert np.asarray(routing.is_hard(scores, 1.0))[0]


def test_predict_routes_images_of_any_size_and_tells_their_cost(model):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 50, 90, 3)).astype("uint8")
    easiness = np.asarray(model.detect(pictures)["easiness"])
    model.threshold = float(np.sort(easiness)[:2].mean())
    found = model.predict(pictures, verbose=0)
    assert np.all(found["boxes"] <= [90, 50, 90, 50])
    np.testing.assert_array_equal(found["is_hard"], easiness < model.threshold)
    routes = tfdet.profile(model).routes
    expected = np.where(found["is_hard"], routes["late"], routes["early"])
    np.testing.assert_allclose(found["macs"], expected)


def _executed(run, *arguments, folder):
    """How often each kind of operation ran, by TensorFlow's profiler.

    Loops are left out: those that thin out proposals take as many turns as the last image needs.
    """
    run(*arguments)
    tf.profiler.experimental.start(str(folder))
    run(*arguments)
    tf.profiler.experimental.stop()
    (file,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
    protos = importlib.import_module("tensorflow.tsl.profiler.protobuf.xplane_pb2")
    with open(file, "rb") as stream:
        space = protos.XSpace.FromString(stream.read())
    counted = collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                node, _, operation = name.rpartition(":")
                if "/while" in node:
                    continue
                for kind in ("Depthwise", "Conv2", "MatMul"):
                    if kind in operation:
                        counted[kind] += 1
                        break
    return counted


def test_what_no_image_needs_is_not_executed(model, detect, images, singles, tmp_path):
    batch, between = tf.constant(images), tf.constant(_between(singles[2])[3])
    spec = {"input_signature": [tf.TensorSpec([None, 64, 64, 3])], "autograph": False}
    ways = {
        "easy": (detect, batch, tf.constant(0.0)),
        "hard": (detect, batch, tf.constant(1.0)),
        "mixed": (detect, batch, between),
        "none": (detect, batch[:0], tf.constant(1.0)),
        "first": (tf.function(model.first.detect_fitted, **spec), batch),
        "all": (tf.function(lambda x: model.decode(model(x), (64, 64)), **spec), batch),
        "taps": (tf.function(model.first.taps, **spec), batch),
    }
    done = {name: _executed(*way, folder=tmp_path / name) for name, way in ways.items()}
    router = collections.Counter(MatMul=2)
    assert done["easy"] == done["first"] + router
    assert done["none"] == done["taps"] + router  # of the one image that fills the batch up
    head = done["first"] - done["taps"]
    assert done["hard"] == done["all"] - head
    assert done["mixed"] == done["all"]
    assert done["easy"].total() < 0.6 * done["all"].total()


@pytest.fixture(scope="module")
def table(model, images):
    return model.calibrate([images[:4], (images[4:], None)])


def test_a_saved_model_comes_back_with_its_threshold_and_calibration(
    model, table, images, tmp_path
):
    model.threshold = 0.4
    assert table.images == POOL
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, DynamicDetector)
    assert (again.config, again.threshold, again.calibration) == (
        model.config,
        model.threshold,
        table,
    )
    assert [v.path for v in again.weights] == [v.path for v in model.weights]
    for name, values in model(images).items():
        tf.nest.map_structure(np.testing.assert_array_equal, again(images)[name], values)


def test_calibrated_thresholds_send_the_wanted_share(model, table, singles):
    easiness = singles[2]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        model.effort = share
        sent = np.mean(np.asarray(routing.is_hard(easiness, model.threshold)))
        assert abs(sent - share) <= 1 / POOL
        assert model.effort == pytest.approx(share, abs=1e-6)
    routes = model.route_macs
    assert (table.macs[0], table.macs[-1]) == (routes["early"], routes["late"])
    assert min(table.latency_ms) > 0
    middle = (routes["early"] + routes["late"]) / 2
    assert model.threshold_for(target_madds=middle) == model.threshold_for(effort=0.5)
    assert model.effort_for(target_madds=middle) == 0.5


def test_a_model_without_calibration_says_so(make):
    model = make("dy-efficientdet-test")
    with pytest.raises(UserError, match="has not been calibrated"):
        model.threshold_for(effort=0.5)
    model.threshold = 0.7
    with pytest.raises(UserError, match="tfdet-eval --calibrate"):
        _ = model.effort
    for model.effort, threshold in ((0, 0.0), (1, 1.0)):  # what these are is always known
        assert (model.threshold, model.effort) == (threshold, threshold)


def test_the_old_name_of_the_threshold_works_with_a_warning(make):
    model = make("dy-efficientdet-test")
    with pytest.warns(DeprecationWarning, match="called `threshold` now"):
        model.knob = 0.25
    with pytest.warns(DeprecationWarning):
        assert model.knob == model.threshold == 0.25


def test_configurations_of_old_files_are_read(make):
    model = make("dy-efficientdet-test")
    config = model.get_config()
    config["knob"] = config.pop("threshold") / 2
    assert DynamicDetector.from_config(config).threshold == model.threshold / 2


def test_any_two_detectors_with_taps_are_joined():
    first = tfdet.create("efficientdet-test", num_classes=3)
    second = tfdet.create(
        "efficientdet-test", num_classes=3, backbone="nano", **{"nms.max_detections": 30}
    )
    model = DynamicDetector(first, second, name="pair")
    model.build_variables()
    found = {t: model.detect_fitted(np.zeros((2, 64, 64, 3), "float32"), t) for t in (0.0, 1.0)}
    for detections in found.values():
        assert detections["boxes"].shape == (2, 100, 4)
    assert np.all(np.asarray(found[1.0]["labels"])[:, 30:] == -1)
    assert tfdet.profile(model).routes["late"] > 2 * tfdet.profile(model).routes["early"]
    other = tfdet.create("efficientdet-test", num_classes=4)
    with pytest.raises(UserError, match="num_classes of the second detector is 4, expected 3"):
        DynamicDetector(first, other)


def test_detectors_without_taps_are_refused():
    first = tfdet.create("efficientdet-test", num_classes=3, image_size=(64, 64))

    class Closed(tfdet.Detector):
        pass

    closed = Closed(dataclasses.replace(first.config, weight_decay=0.0), ())
    with pytest.raises(UserError, match="Closed does not give its backbone's features"):
        DynamicDetector(first, closed)


def test_paths_cost_what_their_parts_cost():
    profile = tfdet.profile("dy-efficientdet-test")
    single = tfdet.profile("efficientdet-test")
    parts = profile.parts
    assert profile.routes["early"] == single.macs + parts["router"].macs
    rest = sum(part.macs for name, part in parts.items() if name.startswith("second_"))
    assert profile.routes["late"] == (
        parts["first_backbone"].macs + parts["router"].macs + parts["fusion"].macs + rest
    )
    assert profile.cost(0.25) == 0.75 * profile.routes["early"] + 0.25 * profile.routes["late"]


_ON_JAX = """
import keras, numpy as np, sys
assert keras.backend.backend() == "jax"
import tfdet
model = tfdet.create("dy-efficientdet-test", num_classes=3, class_names=("a", "b", "c"))
model.load_weights(sys.argv[1])
images = np.load(sys.argv[2])
found = {}
for threshold in (0.0, float(sys.argv[4]), 1.0):
    for name, values in model.detect_fitted(images, threshold).items():
        found[f"{threshold}/{name}"] = np.asarray(values)
np.savez(sys.argv[3], **found)
"""


@pytest.mark.parametrize("model", ["dy-efficientdet-test"], indirect=True, scope="module")
@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="JAX is not installed")
def test_without_tensorflow_results_are_selected(model, detect, images, singles, tmp_path):
    threshold = _between(singles[2])[3]
    paths = [tmp_path / name for name in ("model.weights.h5", "images.npy", "found.npz")]
    model.save_weights(paths[0])
    np.save(paths[1], images)
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", _ON_JAX, *map(str, paths), repr(threshold)]
    subprocess.run(command, check=True, env=environment)
    with np.load(paths[2]) as found:
        for at in (0.0, threshold, 1.0):
            theirs = {k.partition("/")[2]: v for k, v in found.items() if k.startswith(f"{at}/")}
            ours = detect(tf.constant(images), tf.constant(at))
            assert compare.compare(ours, theirs, f"at {at}").mismatches == ()
