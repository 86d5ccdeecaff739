"""What is special in YOLOv7."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import registry
from tfdet.errors import UserError
from tfdet.ops import anchor_grid
from tfdet.serving import compare, export

SMALL_W6 = {"variant": "w6", "image_size": (64, 64)}


def batch(seed=0):
    images = np.random.default_rng(seed).integers(0, 255, (2, 64, 64, 3)).astype(np.uint8)
    boxes = np.array([[[4, 6, 40, 44], [30, 20, 60, 62]], [[0, 0, 0, 0]] * 2], np.float32)
    return images, {"boxes": boxes, "labels": np.array([[1, 2], [-1, -1]], np.int32)}


@pytest.fixture(scope="module")
def lively(make):
    """Gives models whose predictions spread as those of a trained one do."""

    def get(**changes):
        model = make("yolov7-test", **changes)
        random = np.random.default_rng(0)
        for variable in model.weights:
            if variable.name in ("gamma", "moving_variance"):
                variable.assign(random.uniform(0.6, 1.6, variable.shape))
            elif variable.name in ("beta", "moving_mean"):
                variable.assign(random.normal(0, 0.3, variable.shape))
            elif variable.path.startswith("yolov7-test/head/"):
                variable.assign(random.normal(0, 1, variable.shape))
        return model

    return get


def test_the_network_sees_pixels_over_255_and_gray_around_them(make):
    model = make("yolov7-test")
    images, _ = batch()
    seen = model.backbone(images.astype(np.float32) / 255)
    np.testing.assert_allclose(model.taps(images)["P1"], seen["P1"], rtol=1e-5)
    assert model.pad_value == (114.0,) * 3


@pytest.mark.parametrize("changes", [{}, {"variant": "x"}, SMALL_W6])
def test_taps_lead_to_predictions(lively, changes):
    model = lively(**changes)
    images, _ = batch()
    taps = model.taps(images)
    assert {name: x.shape[-1] for name, x in taps.items()} == model.tap_channels
    expected = model(images)
    for name, value in model.predictions(taps).items():
        np.testing.assert_array_equal(value, expected[name])
    added = {
        name: np.ones((2, 64 >> int(name[1:]), 64 >> int(name[1:]), channels), np.float32)
        for name, channels in model.joint_channels.items()
    }
    other = model.predictions(model.taps(images, added=added))
    assert np.abs(np.asarray(other["box_codes"] - expected["box_codes"])).max() > 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"variant": "w6", "image_size": (128, 128), "auxiliary_heads": True},
        {"num_classes": 1},
    ],
)
def test_it_trains(make, changes):
    model = make("yolov7-test", **{"num_classes": 3, **changes})
    images, targets = batch()
    images = np.resize(images, (2, *model.image_size, 3))
    if model.num_classes == 1:
        targets["labels"] = np.minimum(targets["labels"], 0)
    before = [np.asarray(v) for v in model.trainable_variables]
    model.compile(optimizer=keras.optimizers.SGD(10.0), run_eagerly=True)
    logs = model.fit(images, targets, batch_size=2, epochs=1, verbose=0).history
    assert set(logs) == {"box_loss", "object_loss", "class_loss", "loss"}
    assert all(np.isfinite(values).all() for values in logs.values())
    still = [
        variable.path
        for variable, value in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(value, variable)
    ]
    assert still == []


def test_auxiliary_predictions_change_the_loss_and_not_the_detections():
    model = registry.create("yolov7-test", **SMALL_W6, auxiliary_heads=True, num_classes=3)
    images, targets = batch()
    raw = model(images)
    assert {key: x.shape for key, x in raw["auxiliary"].items()} == {
        key: raw[key].shape for key in ("box_codes", "object_logits", "class_logits")
    }
    alone = {key: value for key, value in raw.items() if key != "auxiliary"}
    assert all(
        float(model.loss_terms(targets, raw)[key]) > float(value)
        for key, value in model.loss_terms(targets, alone).items()
    )
    found = model.decode(raw, model.image_size)
    np.testing.assert_array_equal(found["scores"], model.decode(alone, model.image_size)["scores"])
    merged = model.for_inference()
    assert set(merged(images)) == set(alone)


def slow_decode(model, raw, image):
    """Detections of one image as (score, label, box), best first, one pair after the other."""
    nms = model.config.nms
    boxes = np.asarray(anchor_grid.decode(raw["box_codes"], model.config.grid, (64, 64)))[image]
    objects = 1 / (1 + np.exp(-np.asarray(raw["object_logits"], np.float64)[image]))
    classes = 1 / (1 + np.exp(-np.asarray(raw["class_logits"], np.float64)[image]))
    if model.num_classes == 1:
        classes = np.ones_like(classes)
    scores = objects[:, None] * classes
    pairs = [
        (scores[k, c], c, boxes[k])
        for k, c in np.ndindex(scores.shape)
        if objects[k] > nms.score_threshold and scores[k, c] > nms.score_threshold
    ]
    kept = []
    for pair in sorted(pairs, key=lambda pair: -pair[0])[: nms.max_candidates]:
        if all(pair[1] != x[1] or iou(pair[2], x[2]) <= nms.iou_threshold for x in kept):
            kept.append(pair)
    return kept[: nms.max_detections]


def iou(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = np.prod(np.maximum(sides, 0))
    return common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)


@pytest.mark.parametrize(
    ("classes", "nms"),
    [
        (1, {}),
        (3, {"score_threshold": 0.25, "max_detections": 20}),
        pytest.param(1, {"score_threshold": 0.25, "max_detections": 20}, marks=pytest.mark.slow),
        pytest.param(3, {}, marks=pytest.mark.slow),
    ],
)
def test_detections_are_those_of_the_slow_way(lively, classes, nms):
    model = lively(num_classes=classes, nms=nms)
    raw = model(batch()[0])
    found = model.decode(raw, (64, 64))
    for i in range(2):
        expected = slow_decode(model, raw, i)
        assert 10 < len(expected) == found["count"][i]
        # Scores that differ by rounding alone may stand in any order.
        rows = {key: np.asarray(value)[i : i + 1] for key, value in found.items()}
        difference = compare.compare(as_detections(expected, rows), rows, "slow")
        assert difference.mismatches == ()
        assert difference.box < 1e-3 and difference.score < 1e-6


def as_detections(kept, like):
    arrays = {key: np.zeros_like(value) for key, value in like.items()}
    arrays["labels"][:] = -1
    arrays["count"][0] = len(kept)
    for i, (score, label, box) in enumerate(kept):
        arrays["scores"][0, i], arrays["labels"][0, i] = score, label
        arrays["boxes"][0, i] = np.clip(box, 0, 64)
    return arrays


def test_defaults_are_the_published_test_settings():
    nms = registry.config("yolov7").nms
    assert (nms.method, nms.mode, nms.iou_threshold) == ("hard", "per_class", 0.65)
    assert (nms.score_threshold, nms.max_candidates, nms.max_detections) == (0.001, 30_000, 300)
    assert registry.config("yolov7-w6").image_size == (1280, 1280)


def test_the_merged_model_detects_the_same_and_has_no_batch_norm(lively):
    model = lively()
    images, _ = batch()
    merged = model.for_inference()
    assert merged.name == model.name and merged.for_inference() is merged
    assert not any(
        isinstance(layer, keras.layers.BatchNormalization) for layer in merged._flatten_layers()
    )
    expected, found = model(images), merged(images)
    for key, value in found.items():
        np.testing.assert_allclose(value, expected[key], atol=1e-4)


def test_the_exported_model_is_the_merged_one(lively, tmp_path):
    # `common_test` compares what it detects.
    model = lively(num_classes=3)
    export._save(model, tmp_path / "saved_model", native_ops=False)
    graph = tf.saved_model.load(str(tmp_path / "saved_model")).signatures["serving_default"].graph
    functions = graph.as_graph_def().library.function
    kernels = [
        node.attr["value"].tensor.tensor_shape
        for function in functions
        for node in function.node_def
        if node.op == "Const" and len(node.attr["value"].tensor.tensor_shape.dim) == 4
    ]
    convolutions = sum(node.op == "Conv2D" for f in functions for node in f.node_def)
    # As many as there are kernels: RepConv's 1x1 branches are gone.
    assert convolutions == sum(v.name == "kernel" for v in model.for_inference().weights)
    assert len(kernels) >= convolutions


def test_half_precision_trains_with_float32_variables():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = registry.create("yolov7-test", num_classes=3)
    finally:
        keras.config.set_dtype_policy("float32")
    images, targets = batch()
    raw = model(images)
    assert {keras.backend.standardize_dtype(x.dtype) for x in raw.values()} == {"float16"}
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    model.compile(optimizer=keras.optimizers.SGD(0.01), run_eagerly=True)
    logs = model.train_on_batch(images, targets, return_dict=True)
    assert all(np.isfinite(x) for x in logs.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (64, 72)}, "multiples of 32, got 64 x 72"),
        ({"variant": "w6", "image_size": (96, 96)}, "multiples of 64"),
        ({"auxiliary_heads": True}, "for the variant 'w6', not 'v7'"),
        ({"width": 0.0}, "width must be above 0"),
        ({"nms.per_level": True}, "no nms.per_level"),
        ({"variant": "v8"}, "variant must be one of"),
    ],
)
def test_mistakes_are_told(changes, message):
    with pytest.raises(UserError, match=message):
        registry.config("yolov7-test", **changes)


_ON_JAX = """
import sys, jax, keras, numpy as np, tfdet
assert keras.backend.backend() == "jax"
model = tfdet.create("yolov7-test", variant=sys.argv[4])
model.load_weights(sys.argv[1])
images = np.load(sys.argv[2])
groups = (model.trainable_variables, model.non_trainable_variables)
state = [[v.value for v in group] for group in groups]
run = jax.jit(lambda images: model.stateless_call(*state, images)[0])
np.savez(sys.argv[3], **{k: np.asarray(v) for k, v in run(images).items()})
"""


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="JAX is not installed")
@pytest.mark.parametrize("variant", ["w6"])
def test_the_forward_pass_is_the_same_on_jax(lively, variant, tmp_path):
    model = lively(variant=variant)
    images, _ = batch()
    paths = [tmp_path / name for name in ("model.weights.h5", "images.npy", "raw.npz")]
    model.save_weights(paths[0])
    np.save(paths[1], images)
    command = [sys.executable, "-c", _ON_JAX, *paths, variant]
    subprocess.run(command, check=True, env={**os.environ, "KERAS_BACKEND": "jax"})
    with np.load(paths[2]) as raw:
        for name, expected in model(images).items():
            np.testing.assert_allclose(raw[name], expected, atol=1e-4)


@pytest.mark.slow
def test_a_few_images_are_learnt_by_heart():
    keras.utils.set_random_seed(0)
    model = registry.create("yolov7-test", num_classes=3)
    images, targets = batch()
    model.compile(optimizer=keras.optimizers.Adam(3e-3))
    data = tf.data.Dataset.from_tensors((images, targets)).repeat(400)
    model.fit(data, epochs=1, verbose=0)
    found = model.predict(images, verbose=0)
    for box, label in zip(targets["boxes"][0], targets["labels"][0], strict=True):
        is_same = (found["labels"][0] == label) & (found["scores"][0] > 0.3)
        assert np.min(np.max(np.abs(found["boxes"][0] - box), axis=-1)[is_same]) < 4
    assert found["scores"][1].max() < 0.3
