"""Promises of every model of the garden, tried on each registered "*-test" model.

A new model adds a name in the file of its family; these tests find it. Each model is trained once,
until it finds the objects of its batch; what else is asked here is asked of the trained model, so
that there are detections to compare. Exports of all models run in one other process, and so does
JAX.
"""

import ast
import collections
import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfdet
from tfdet import profiling, records, registry
from tfdet.serving import compare, export
from tfdet.training.optimizer import Adam

NAMES = [name for name in registry.list_models(test=True) if name.endswith("-test")]
# FCOS predicts distances after a ReLU. With few filters it can start at 0 for one side of all
# boxes, and stay there; TensorFlow 2.18 draws such weights from the first seed.
SEEDS = (0, 1)
# Parts of the names of those that learn by steps of 3e-3; the others learn by fewer of 1e-2.
SLOWER = ("rcnn", "packdet", "dy-yolov7")
# As many as the data pipeline gives at most.
MAX_OBJECTS = 100
COLORS = ((230, 40, 40), (40, 230, 40), (60, 90, 240))


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def case(name, drop):
    drop()  # the model before it
    return trained(name)


@pytest.fixture(scope="module")
def loaded(case, tmp_path_factory):
    """The trained model as its file gives it back."""
    if case.model.is_dynamic:
        case.model.threshold = 0.375
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    case.model.save(path)
    return keras.saving.load_model(path)


@dataclasses.dataclass
class Case:
    """A trained model, and what was seen on the way.

    Attributes:
        model: finds the objects of `images`, if it can learn.
        profile: of the model as it was made; a step may leave parts of it as they are.
        images, targets: what it was trained on.
        whole: `compute_loss` before the first step.
        logs: of the first step, whose loss is that before it.
        after: the loss after it.
        still: paths of the trained variables that no step moved.
        empty, full: logs of steps without objects and with the maximum of them.
        is_finite: whether all weights were numbers after those.
    """

    model: tfdet.Detector
    profile: profiling.Profile
    images: np.ndarray
    targets: dict[str, np.ndarray]
    whole: float
    logs: dict[str, float]
    after: float
    still: list[str]
    empty: dict[str, float]
    full: dict[str, float]
    is_finite: bool


def trained(name: str) -> Case:
    """A case whose model finds its objects; of the last seed where none leads to one."""
    for seed in SEEDS:
        case = train(name, seed)
        if misses(detect(case.model, case.images), case.targets) == []:
            break
    return case


def train(name: str, seed: int) -> Case:
    keras.utils.set_random_seed(seed)
    model = registry.create(name)
    profile = profiling.profile(model)
    for layer in model._flatten_layers():
        # The run is too short for statistics with the published momentum of 0.99.
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
    images, targets = scenes(model)
    # Small first: what a step promises holds in its direction, not at any length.
    optimizer = Adam(1e-4, clip_norm=10.0, clip="global")
    model.compile(optimizer=optimizer, jit_compile=False)  # as in `training.trainer`
    optimizer.build(model.trainable_variables)
    again = rewinder(model)
    whole = float(model.compute_loss(images, targets, model(images, training=True)))
    again()
    before = [v.numpy() for v in model.trainable_variables]

    def step(targets):
        model.reset_metrics()
        return model.train_on_batch(images, targets, return_dict=True)

    logs = step(targets)
    again()
    after = step(targets)["loss"]
    empty, full = step(without_objects(targets)), step(full_of_objects(targets, model))
    is_finite = all(np.isfinite(v.numpy()).all() for v in model.weights)
    again()
    optimizer.learning_rate = 3e-3 if any(x in name for x in SLOWER) else 1e-2
    for _ in range(24):
        for _ in range(10):
            step(targets)
        if misses(detect(model, images), targets) == []:
            break
    # At the end: a step that draws samples may draw none from a level.
    moved = zip(model.trainable_variables, before, strict=True)
    still = [v.path for v, value in moved if np.array_equal(v.numpy(), value)]
    return Case(model, profile, images, targets, whole, logs, after, still, empty, full, is_finite)


def rewinder(model):
    """What lets the next step draw the samples, and drop the branches, of the first.

    The optimizer forgets what it averages, too: a step with a huge gradient would slow down the
    hundreds after it.
    """
    layers = [x for x in model._flatten_layers() if getattr(x, "seed_generator", None)]
    variables = [*model.optimizer.variables, *(x.seed_generator.state for x in layers)]
    values = [variable.numpy() for variable in variables]

    def again():
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    return again


def scenes(model, count=2):
    """Images with two rectangles each, whose color is their class, and their targets."""
    random = np.random.default_rng(0)
    height, width = model.image_size
    images = random.integers(0, 60, (count, height, width, 3)).astype(np.uint8)
    boxes = np.zeros((count, MAX_OBJECTS, 4), np.float32)
    labels = np.full((count, MAX_OBJECTS), -1, np.int32)
    for i in range(count):
        # One wide, one tall: a decode that swaps sides does not pass.
        corners = np.array([[0.05, 0.1, 0.8, 0.45], [0.6, 0.5, 0.9, 0.97]])
        boxes[i, :2] = np.round((corners - 0.02 * i) * (width, height, width, height))
        labels[i, :2] = (np.arange(2) + i) % len(COLORS)
        for box, label in zip(boxes[i, :2].astype(int), labels[i, :2], strict=True):
            images[i, box[1] : box[3], box[0] : box[2]] = COLORS[label]
    targets = {"boxes": boxes, "labels": labels}
    if model.mask_size:
        shape = (count, MAX_OBJECTS, model.mask_size, model.mask_size)
        targets["masks"] = np.ones(shape, np.uint8)
    return images, targets


def without_objects(targets):
    return {
        **targets,
        "boxes": np.zeros_like(targets["boxes"]),
        "labels": np.full_like(targets["labels"], -1),
    }


def full_of_objects(targets, model):
    random = np.random.default_rng(1)
    shape = targets["labels"].shape
    height, width = model.image_size
    # Some for each level of a pyramid; the coarsest anchors are larger than the image.
    share = np.exp(random.uniform(np.log(0.03), np.log(8), (*shape, 2)))
    center = random.uniform(0, 1, (*shape, 2))
    first, second = ((center + sign * share / 2) * (width, height) for sign in (-1, 1))
    return {
        **targets,
        "boxes": np.concatenate([first, second], -1).astype(np.float32),
        "labels": random.integers(0, model.num_classes, shape).astype(np.int32),
    }


def misses(found, targets):
    """Objects that are not among the best detections of their image, as many as it has objects."""
    missed = []
    for i, labels in enumerate(targets["labels"]):
        count = int((labels >= 0).sum())
        for box, label in zip(targets["boxes"][i, :count], labels[:count], strict=True):
            hits = (found["labels"][i, :count] == label) & (
                overlaps(found["boxes"][i, :count], box) > 0.7
            )
            if not hits.any():
                missed.append((i, int(label), box.tolist()))
    return missed


def overlaps(boxes, box):
    """IoU of boxes [N, 4] with one."""
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    common = np.prod(np.maximum(high - low, 0), -1)
    areas = [np.prod(x[..., 2:] - x[..., :2], -1) for x in (boxes, box)]
    return common / (areas[0] + areas[1] - common)


def varied(model):
    """Three images that differ, one of them without anything."""
    images, _ = scenes(model)
    return np.stack([images[0], np.zeros_like(images[0]), images[1][::-1]])


def detect(model, images, threshold=None):
    """What `predict` gives, without its graph: a small one takes longer to make than to run."""
    if threshold is not None:
        model.threshold = threshold
    return {key: np.asarray(value) for key, value in model.detect(images).items()}


def thresholds(model):
    """None for a model that treats all images alike; else the ends, and one in between."""
    if not model.is_dynamic:
        return [None]
    scores = detect(model, varied(model)).get("easiness", np.array([0.0, 1.0]))
    return [0.0, float(np.mean(np.sort(scores)[:2])), 1.0]


def same(expected, found, where):
    difference = compare.compare(expected, found, where)
    assert difference.mismatches == ()
    assert difference.box < 0.02 and difference.score < 1e-4
    return difference


@pytest.mark.parametrize("name", registry.list_models(test=True))
def test_its_configuration_survives_json(name):
    config = registry.config(name)
    text = json.dumps(records.to_dict(config))
    assert records.from_dict(type(config), json.loads(text)) == config


def test_names_for_keras_are_unique():
    # The second of a name would silently take the place of the first.
    places = collections.defaultdict(list)
    for path in sorted(pathlib.Path(tfdet.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for call in getattr(node, "decorator_list", []):
                text = ast.unparse(call)
                if "register_keras_serializable" in text:
                    names = [k.value.value for k in call.keywords if k.arg == "name"]
                    places[(names or [node.name])[0]].append(f"{path.name}: {text}")
    assert len(places) > 50
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_it_is_small(name, case):
    # A cascade has two networks, and those of dy-faster-rcnn-test are ResNets with bottlenecks.
    limit = 500_000 if name.startswith("dy-") else 50_000
    assert 0 < profiling.profile(case.model).parameters < limit


def test_it_is_counted_by_name_as_it_is_built(case, name):
    profile = case.profile
    assert profile == profiling.profile(name)
    assert 0 < profile.trainable <= profile.parameters <= profile.parameters_total
    assert profile.parameters_total == sum(int(np.prod(v.shape)) for v in case.model.weights)
    for field in ("parameters", "trainable", "parameters_total"):
        parts = sum(getattr(part, field) for part in profile.parts.values())
        assert parts == getattr(profile, field), field
    work = sum(part.macs for part in profile.parts.values())
    assert 0 < profile.macs <= work
    assert profile.routes or profile.macs == work


def test_fit_sees_the_whole_loss(case):
    assert case.logs["loss"] == pytest.approx(case.whole, rel=1e-4)
    terms = sum(case.logs[term] for term in case.model.loss_names)
    assert terms == pytest.approx(case.whole, rel=1e-4)


def test_a_step_lowers_the_loss(case):
    assert case.after < case.logs["loss"]


def test_training_moves_every_weight(case):
    unreached = {e: [x for x in case.still if re.search(e, x)] for e in case.model.unreached}
    assert all(unreached.values()), unreached  # no expression is there in vain
    assert set(case.still) == set().union(*unreached.values())


def test_none_and_the_most_objects_give_finite_losses(case):
    for logs in (case.empty, case.full):
        assert np.isfinite(list(logs.values())).all(), logs
    assert case.is_finite


def test_it_learns_to_find_the_objects_of_its_batch(case):
    assert misses(detect(case.model, case.images), case.targets) == []
    assert misses(case.model.predict(case.images, verbose=0), case.targets) == []


def test_a_batch_gives_what_each_image_gives_alone(case):
    images = varied(case.model)
    for threshold in thresholds(case.model):
        together = detect(case.model, images, threshold)
        for i in range(len(images)):
            alone = detect(case.model, images[i : i + 1], threshold)
            own = {key: value[i : i + 1] for key, value in together.items()}
            same(alone, own, f"image {i} at {threshold}")


def test_it_survives_keras_files(case, loaded):
    if case.model.is_dynamic:
        assert loaded.threshold == 0.375
        case.model.threshold = 0.375
    assert type(loaded) is type(case.model) and loaded.config == case.model.config
    expected, found = (detect(x, case.images) for x in (case.model, loaded))
    assert expected["count"].sum() > 0
    for key, value in expected.items():
        np.testing.assert_array_equal(value, found[key], err_msg=key)


def test_its_weights_survive_files(case, loaded, tmp_path):
    case.model.save_weights(tmp_path / "model.weights.h5")
    for variable in loaded.weights:
        variable.assign(np.zeros(variable.shape))
    loaded.load_weights(tmp_path / "model.weights.h5")
    for ours, theirs in zip(loaded.weights, case.model.weights, strict=True):
        assert ours.path == theirs.path
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


# Each program is told folders on its input, and leaves found.npz or error.txt in each.
_ON_TENSORFLOW = """
import pathlib, sys, traceback
import numpy as np, tensorflow as tf
for folder in map(pathlib.Path, map(str.strip, sys.stdin)):
    try:
        detect = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
        given = dict(np.load(folder / "given.npz"))
        found = {}
        for i, threshold in enumerate(given.get("thresholds", [None])):
            at = {} if threshold is None else {"threshold": tf.constant(threshold, tf.float32)}
            for key, value in detect(images=tf.constant(given["images"]), **at).items():
                found[f"{i}/{key}"] = value.numpy()
        np.savez(folder / "found.npz", **found)
        assert "tfdet" not in sys.modules
    except Exception:
        (folder / "error.txt").write_text(traceback.format_exc())
    print("done", flush=True)
"""
_ON_JAX = """
import pathlib, sys, traceback
import jax, keras, numpy as np
from tfdet import registry
assert keras.backend.backend() == "jax"
for folder in map(pathlib.Path, map(str.strip, sys.stdin)):
    try:
        model = registry.create((folder / "name.txt").read_text())
        model.load_weights(folder / "model.weights.h5")
        groups = (model.trainable_variables, model.non_trainable_variables)
        state = [[v.value for v in group] for group in groups]
        run = jax.jit(lambda x: model.stateless_call(*state, x, training=False)[0])
        raw = run(np.load(folder / "given.npz")["images"])
        flat = [np.asarray(x) for x in keras.tree.flatten(raw)]
        np.savez(folder / "found.npz", **{str(i): x for i, x in enumerate(flat)})
    except Exception:
        (folder / "error.txt").write_text(traceback.format_exc())
    print("done", flush=True)
"""


class Process:
    """A process without this one's modules, which works on one folder after the other."""

    def __init__(self, program, folder, **environment):
        self.errors = folder / "errors.txt"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program],
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def results(self, folder):
        print(folder, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "done\n", self.errors.read_text()[-4000:]
        error = folder / "error.txt"
        assert not error.exists(), error.read_text()
        return dict(np.load(folder / "found.npz"))

    def end(self):
        self.process.communicate()


@pytest.fixture(scope="module")
def exports_alone(tmp_path_factory):
    process = Process(_ON_TENSORFLOW, tmp_path_factory.mktemp("tensorflow"))
    yield process
    process.end()


@pytest.fixture(scope="module")
def jax_alone(tmp_path_factory):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed; `pip install jax` runs this test")
    process = Process(_ON_JAX, tmp_path_factory.mktemp("jax"), KERAS_BACKEND="jax")
    yield process
    process.end()


def test_its_export_gives_the_same_in_a_new_process(case, exports_alone, tmp_path):
    chosen = {"thresholds": thresholds(case.model)} if case.model.is_dynamic else {}
    images = varied(case.model)
    np.savez(tmp_path / "given.npz", images=images, **chosen)
    export._save(case.model, tmp_path / "saved_model", native_ops=False)
    found, total = exports_alone.results(tmp_path), 0
    for i, threshold in enumerate(chosen.get("thresholds", [None])):
        expected = detect(case.model, images, threshold)
        own = {key: found[f"{i}/{key}"] for key in expected}
        total += same(expected, own, f"at {threshold}").detections
    assert total > 0


def test_it_predicts_the_same_on_jax(case, name, jax_alone, tmp_path):
    (tmp_path / "name.txt").write_text(name)
    case.model.save_weights(tmp_path / "model.weights.h5")
    np.savez(tmp_path / "given.npz", images=varied(case.model))
    found = jax_alone.results(tmp_path)
    raw = case.model(varied(case.model), training=False)
    expected = [np.asarray(x) for x in keras.tree.flatten(raw)]
    assert len(found) == len(expected) > 0
    for i, value in enumerate(expected):
        np.testing.assert_allclose(found[str(i)], value, rtol=1e-3, atol=1e-3)
