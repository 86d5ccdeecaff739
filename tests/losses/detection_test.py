import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfdet.detectors.postprocess import postprocess
from tfdet.errors import UserError
from tfdet.losses.assignment import assign
from tfdet.losses.detection import LossConfig, dense_loss_terms
from tfdet.ops import boxes as box_ops
from tfdet.ops.anchors import AnchorConfig, anchors
from tfdet.ops.nms import NMSConfig

ANCHORS = anchors(AnchorConfig(3, 5), (64, 64))
CLASSES = 3
OBJECTS = np.float32([[[4, 6, 30, 40], [20, 10, 60, 50]], [[0, 0, 12, 9], [0, 0, 0, 0]]])
LABELS = np.int32([[0, 2], [1, -1]])
TARGETS = {"boxes": OBJECTS, "labels": LABELS}


def predictions(seed=0, batch=2):
    rng = np.random.default_rng(seed)
    return {
        "class_logits": rng.normal(-3, 1, (batch, len(ANCHORS), CLASSES)).astype(np.float32),
        "box_codes": rng.normal(0, 0.2, (batch, len(ANCHORS), 4)).astype(np.float32),
    }


def perfect_predictions(certainty=30.0):
    """Logits and codes that say what the targets say."""
    assigned = assign(ANCHORS, OBJECTS, LABELS)
    hot = np.array(assigned.labels)[..., None] == np.arange(CLASSES)
    codes = np.array(box_ops.encode(assigned.boxes, ANCHORS))
    codes = np.where(hot.any(-1, keepdims=True), codes, 0)
    logits = np.where(hot, certainty, -certainty)
    return {"class_logits": logits.astype(np.float32), "box_codes": codes.astype(np.float32)}


def test_perfect_predictions_cost_nothing():
    config = LossConfig(iou_loss="ciou")
    terms = dense_loss_terms(TARGETS, perfect_predictions(), ANCHORS, config)
    assert set(terms) == {"class_loss", "box_loss", "iou_loss"}
    np.testing.assert_allclose([float(t) for t in terms.values()], np.zeros(3), atol=1e-4)


def test_one_wrong_code_costs_what_the_formula_says():
    raw = perfect_predictions()
    assigned = np.array(assign(ANCHORS, OBJECTS, LABELS).labels)
    positives = (assigned >= 0).sum()
    image, anchor = np.argwhere(assigned >= 0)[0]
    raw["box_codes"][image, anchor, 1] += 0.3
    terms = dense_loss_terms(TARGETS, raw, ANCHORS, LossConfig())
    expected = 50 * (0.1 * 0.3 - 0.5 * 0.1**2) / ((positives + 1) * 4)
    np.testing.assert_allclose(terms["box_loss"], expected, rtol=1e-4)


def test_weights_multiply_their_terms():
    raw = predictions()
    one = LossConfig(iou_loss="giou", box_loss_weight=1.0)
    many = dataclasses.replace(one, box_loss_weight=7.0, iou_loss_weight=3.0)
    before, after = (dense_loss_terms(TARGETS, raw, ANCHORS, config) for config in (one, many))
    np.testing.assert_allclose(after["box_loss"], 7 * before["box_loss"], rtol=1e-6)
    np.testing.assert_allclose(after["iou_loss"], 3 * before["iou_loss"], rtol=1e-6)
    np.testing.assert_allclose(after["class_loss"], before["class_loss"], rtol=1e-6)


def test_terms_are_normalised_by_all_positives_of_the_batch():
    raw = predictions()
    together = dense_loss_terms(TARGETS, raw, ANCHORS, LossConfig())
    positives = (np.array(assign(ANCHORS, OBJECTS, LABELS).labels) >= 0).sum(axis=1)
    for name in ("class_loss", "box_loss"):
        total = 0.0
        for i in range(2):
            one = {key: value[i : i + 1] for key, value in TARGETS.items()}
            part = {key: value[i : i + 1] for key, value in raw.items()}
            alone = dense_loss_terms(one, part, ANCHORS, LossConfig())[name]
            total += float(alone) * (positives[i] + 1)
        np.testing.assert_allclose(together[name], total / (positives.sum() + 1), rtol=1e-5)


def loss_and_gradients(targets, raw, config):
    raw = {name: tf.convert_to_tensor(value) for name, value in raw.items()}
    with tf.GradientTape() as tape:
        tape.watch(raw)
        terms = dense_loss_terms(targets, raw, ANCHORS, config)
        loss = tf.add_n(list(terms.values()))
    return terms, tape.gradient(loss, raw)


@pytest.mark.parametrize("iou_loss", [None, "ciou"])
@pytest.mark.parametrize("slots", [1, 5])
def test_images_without_objects_only_learn_background(slots, iou_loss):
    empty = {
        "boxes": np.zeros((2, slots, 4), np.float32),
        "labels": np.full((2, slots), -1, np.int32),
    }
    terms, gradients = loss_and_gradients(empty, predictions(), LossConfig(iou_loss=iou_loss))
    assert float(terms["class_loss"]) > 0 and np.isfinite(terms["class_loss"])
    assert all(float(term) == 0 for name, term in terms.items() if name != "class_loss")
    assert (gradients["class_logits"].numpy() > 0).all()
    assert (gradients["box_codes"].numpy() == 0).all()


@pytest.mark.parametrize("iou_loss", ["iou", "giou", "diou", "ciou"])
def test_wild_codes_of_background_do_not_reach_the_gradient(iou_loss):
    raw = predictions()
    background = np.array(assign(ANCHORS, OBJECTS, LABELS).labels) < 0
    raw["box_codes"][background] = 500.0  # exp overflows
    terms, gradients = loss_and_gradients(TARGETS, raw, LossConfig(iou_loss=iou_loss))
    assert all(np.isfinite(term) for term in terms.values())
    assert np.isfinite(gradients["box_codes"]).all()


def test_a_step_along_the_gradient_lowers_the_loss():
    config = LossConfig(iou_loss="ciou")
    raw = predictions()
    terms, gradients = loss_and_gradients(TARGETS, raw, config)
    moved = {name: raw[name] - 1e-2 * gradients[name].numpy() for name in raw}
    after = dense_loss_terms(TARGETS, moved, ANCHORS, config)
    assert sum(map(float, after.values())) < sum(map(float, terms.values()))


def test_half_precision_predictions_are_summed_in_float32():
    raw = {name: value.astype(np.float16) for name, value in predictions().items()}
    exact = {name: value.astype(np.float32) for name, value in raw.items()}
    terms = dense_loss_terms(TARGETS, raw, ANCHORS, LossConfig())
    expected = dense_loss_terms(TARGETS, exact, ANCHORS, LossConfig())
    assert terms["class_loss"].dtype == tf.float32
    np.testing.assert_array_equal(terms["class_loss"], expected["class_loss"])


def test_crowds_follow_the_config():
    targets = {**TARGETS, "is_crowd": np.array([[False, True], [False, False]])}
    without = {**TARGETS, "labels": np.int32([[0, -1], [1, -1]])}
    raw = predictions()
    skipped = dense_loss_terms(targets, raw, ANCHORS, LossConfig())["box_loss"]
    kept = dense_loss_terms(targets, raw, ANCHORS, LossConfig(skip_crowd=False))["box_loss"]
    expected = dense_loss_terms(without, raw, ANCHORS, LossConfig())["box_loss"]
    np.testing.assert_array_equal(skipped, expected)
    np.testing.assert_array_equal(
        kept, dense_loss_terms(TARGETS, raw, ANCHORS, LossConfig())["box_loss"]
    )


def test_compiles_with_xla_together_with_its_gradient():
    config = LossConfig(iou_loss="ciou")
    terms, gradients = loss_and_gradients(TARGETS, predictions(), config)
    compiled = tf.function(
        lambda raw: loss_and_gradients(TARGETS, raw, config), jit_compile=True, autograph=False
    )(predictions())
    for name, term in terms.items():
        np.testing.assert_allclose(compiled[0][name], term, rtol=1e-4)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(compiled[1][name], gradient, rtol=1e-3, atol=1e-6)


# In a process of its own: virtual devices must exist before TensorFlow starts.
_TWO_REPLICAS = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.losses.detection_test import *
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
raw = predictions()
whole, expected = loss_and_gradients(TARGETS, raw, LossConfig())
split = lambda tree: strategy.experimental_distribute_values_from_function(
    lambda c: {k: tf.constant(v[c.replica_id_in_sync_group :][:1]) for k, v in tree.items()})
@tf.function
def step(targets, raw):
    return strategy.run(lambda t, r: loss_and_gradients(t, r, LossConfig()), (targets, raw))
terms, gradients = step(split(TARGETS), split(raw))
for name in whole:
    total = strategy.reduce("SUM", terms[name], axis=None)
    np.testing.assert_allclose(total, whole[name], rtol=1e-5)
for name in raw:
    parts = strategy.experimental_local_results(gradients[name])
    np.testing.assert_allclose(np.concatenate(parts), expected[name], rtol=1e-4, atol=1e-7)
"""


@pytest.mark.slow
def test_two_replicas_sum_to_the_whole_batch():
    subprocess.run([sys.executable, "-c", _TWO_REPLICAS], check=True, timeout=240)


_ON_JAX = """
import sys, jax, keras, numpy as np
from tfdet.detectors.postprocess import postprocess
from tfdet.losses.detection import LossConfig, dense_loss_terms
from tfdet.ops.nms import NMSConfig
assert keras.backend.backend() == "jax"
given = dict(np.load(sys.argv[1]))
raw = {name: given[name] for name in ("class_logits", "box_codes")}
targets = {name: given[name] for name in ("boxes", "labels")}
config = LossConfig(iou_loss="ciou")
loss = lambda raw: sum(dense_loss_terms(targets, raw, given["anchors"], config).values())
value, gradient = jax.jit(jax.value_and_grad(loss))(raw)
decode = {"anchors": given["anchors"], "nms": NMSConfig(), "image_size": (64, 64)}
scores = jax.jit(lambda raw: postprocess(**raw, **decode)["scores"])(raw)
np.testing.assert_allclose(value, given["loss"], rtol=1e-5)
np.testing.assert_allclose(scores, given["scores"], rtol=1e-4)
for name in raw:
    np.testing.assert_allclose(gradient[name], given["grad_" + name], rtol=1e-3, atol=1e-6)
"""


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="JAX is not installed")
def test_loss_gradient_and_detections_are_the_same_on_jax(tmp_path):
    raw = predictions()
    terms, gradients = loss_and_gradients(TARGETS, raw, LossConfig(iou_loss="ciou"))
    scores = postprocess(**raw, anchors=ANCHORS, nms=NMSConfig(), image_size=(64, 64))["scores"]
    np.savez(
        tmp_path / "given.npz",
        anchors=ANCHORS,
        loss=sum(terms.values()),
        scores=scores,
        **raw,
        **TARGETS,
        **{f"grad_{name}": gradient for name, gradient in gradients.items()},
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", _ON_JAX, str(tmp_path / "given.npz")]
    subprocess.run(command, check=True, timeout=240, env=environment)


def test_round_trip_through_json():
    config = LossConfig(gamma=2.0, iou_loss="diou")
    assert LossConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"iou_loss": "eiou"}, "got 'eiou'"),
        ({"alpha": 2.0}, "alpha between 0 and 1, got 2"),
        ({"label_smoothing": 1.0}, "label_smoothing < 1, got 1"),
        ({"delta": 0.0}, "delta=0"),
    ],
)
def test_wrong_configs_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        LossConfig(**arguments)
