import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import registry
from tfdet.detectors.efficientdet import EfficientDet
from tfdet.errors import UserError
from tfdet.ops.anchors import anchors


@pytest.fixture(scope="module")
def small(make):
    return lambda **overrides: make("efficientdet-test", num_classes=3, **overrides)


def _half(policy, **overrides):
    keras.config.set_dtype_policy(policy)
    try:
        return registry.create("efficientdet-test", num_classes=3, **overrides)
    finally:
        keras.config.set_dtype_policy("float32")


def _images(height=64, width=64, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype("uint8")


def _batch():
    targets = {
        "boxes": np.array([[[5, 5, 40, 50]], [[20, 10, 60, 40]]], "float32"),
        "labels": np.array([[1], [-1]], "int32"),
        "is_crowd": np.zeros((2, 1), bool),
    }
    return _images(), targets


def _gradients(model):
    images, targets = _batch()
    with tf.GradientTape() as tape:
        raw = model(images, training=True)
        terms = model.loss_terms(targets, raw)
        loss = tf.add_n(list(terms.values()))
    return loss, tape.gradient(loss, [v.value for v in model.trainable_variables])


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((64, 64), marks=pytest.mark.slow),
        (65, 97),
        pytest.param((40, 130), marks=pytest.mark.slow),
        (9, 33),
    ],
)
def test_any_image_size_gives_a_prediction_per_anchor(small, size):
    model = small(image_size=size)
    raw = model(_images(*size))
    count = len(anchors(model.config.anchors, size))
    assert raw["class_logits"].shape == (2, count, 3)
    assert raw["box_codes"].shape == (2, count, 4)
    detections = model.decode(raw, size)
    assert detections["boxes"].shape == (2, 100, 4)


def test_predict_takes_images_of_other_sizes(small):
    model = small(**{"nms.max_detections": 7})
    detections = model.predict(_images(50, 90), verbose=0)
    assert detections["boxes"].shape == (2, 7, 4)
    assert np.all(detections["boxes"] <= [90, 50, 90, 50])


@pytest.mark.parametrize(
    "overrides",
    [
        {"fpn": "nas_fpn", "fpn_fusion": "channel_softmax"},
        {
            "fpn": [{"level": level, "inputs": [0, 1, 2, 3, 4]} for level in range(3, 8)],
            "activation": "relu6",
            "pixels": "lite",
            "separable_conv": False,
        },
        {
            **{"min_level": 2, "max_level": 8, "anchor_scale": 3.0, "head_drop_rate": 0.2},
            **{"fpn_conv_bn_act": True, "fpn_lateral_batch_norm": False, "fpn_pool_first": True},
            **{"batch_norm": "frozen", "gradient_checkpointing": True, "drop_connect": 0.2},
        },
    ],
)
def test_a_saved_model_comes_back_with_equal_outputs(small, overrides, tmp_path):
    model = small(**overrides, class_names=("cat", "dog", "axolotl"), class_ids=(1, 5, 90))
    for variable in model.weights:
        variable.assign(variable + 0.01 * keras.random.normal(variable.shape, seed=1))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, EfficientDet) and again.config == model.config
    for name, values in model(_images()).items():
        np.testing.assert_array_equal(again(_images())[name], values)


def test_weights_of_another_structure_are_refused(small, tmp_path):
    model = small()
    model.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError):
        small(fpn_cells=2).load_weights(tmp_path / "model.weights.h5")


@pytest.mark.parametrize(
    ("policy", "overrides"),
    [
        ("mixed_float16", {}),
        ("mixed_bfloat16", {"gradient_checkpointing": True, "drop_connect": 0.2}),
        (
            "mixed_float16",
            {"batch_norm": "synchronized", "fpn": "nas_fpn", "fpn_fusion": "softmax"},
        ),
    ],
)
def test_half_precision_trains_with_float32_variables(policy, overrides):
    model = _half(policy, **overrides)
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    raw = model(_images())
    assert raw["class_logits"].dtype.name == policy.removeprefix("mixed_")
    model.compile(optimizer=keras.optimizers.SGD(0.1), run_eagerly=True)
    kernels = [v for v in model.trainable_variables if v.name.endswith("kernel")]
    before = [v.numpy() for v in kernels]
    logs = model.train_on_batch(*_batch(), return_dict=True)
    assert np.isfinite(logs["loss"])
    for kernel, value in zip(kernels, before, strict=True):
        assert np.any(kernel.numpy() != value), kernel.path


def test_half_precision_predicts_what_float32_does(small):
    full, half = small(), _half("mixed_bfloat16")
    half.set_weights(full.get_weights())
    for name, values in full(_images()).items():
        np.testing.assert_allclose(np.float32(half(_images())[name]), values, atol=0.05)


def test_gradient_checkpointing_changes_neither_gradients_nor_statistics(small):
    plain = small(drop_connect=0.5, head_repeats=2)
    saving = small(drop_connect=0.5, head_repeats=2, gradient_checkpointing=True)
    saving.set_weights(plain.get_weights())
    results = []
    for model in (plain, saving):
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.Dropout):
                layer.seed_generator.state.assign([1, 2])
        results.append(_gradients(model))
    (loss, gradients), (expected_loss, expected) = results
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    largest = max(np.max(np.abs(gradient)) for gradient in expected)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6 * largest)
    for ours, theirs in zip(saving.weights, plain.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_frozen_batch_norms_stay_as_they_are_in_training(small):
    model = small(batch_norm="frozen")
    model.compile(optimizer=keras.optimizers.SGD(0.1), run_eagerly=True)
    norms = [v for v in model.weights if v.name in ("gamma", "beta") or "moving" in v.name]
    before = [v.numpy() for v in norms]
    model.train_on_batch(*_batch())
    for variable, value in zip(norms, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert not any("bn" in v.path for v in model.trainable_variables)


def test_names_of_variables_mirror_the_paper(small):
    paths = {v.path.partition("/")[2] for v in small().weights}
    for path in (
        "backbone/stem_conv/kernel",
        "backbone/blocks_1/expand_conv/kernel",
        "backbone/blocks_1/se/reduce/bias",
        "neck/resample_p6/conv/kernel",
        "neck/cell_0/fnode0/fusion/WSM",
        "neck/cell_0/fnode1/resample_0_2_6/bn/gamma",
        "neck/cell_0/fnode7/conv/pointwise_kernel",
        "class_net/class-0/depthwise_kernel",
        "class_net/class-0-bn-3/moving_mean",
        "box_net/box-predict/bias",
    ):
        assert path in paths
    assert len(paths) == len(small().weights)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"image_size": (64, 7)}, "at least 8 on each side, got 64x7"),
        ({"min_level": 6}, "min_level must be 1 to 5"),
        ({"max_level": 4}, "max_level at least 5"),
        ({"fpn": "bifnp"}, "unknown feature network 'bifnp'"),
        ({"fpn_fusion": "fats"}, "fpn_fusion must be one of"),
        ({"batch_norm": "sync"}, "batch_norm must be one of"),
        ({"fpn": [{"level": 3, "inputs": [1]}]}, "makes no map for level 4"),
        ({"activation": "swich"}, "unknown activation 'swich'"),
        ({"backbone": "b9"}, "unknown EfficientNet 'b9'"),
        ({"anchor_scale": [3.0, 4.0]}, "one anchor_scale or one for each of 5 levels"),
        ({"drop_connect": 1.0}, r"drop_connect must be in \[0, 1\), got 1"),
        ({"fpn_width": 0}, "fpn_width must be at least 1, got 0"),
    ],
)
def test_mistakes_in_a_configuration_are_named(overrides, message):
    with pytest.raises(UserError, match=message):
        registry.config("efficientdet-test", **overrides)


_ON_JAX = """
import jax, keras, numpy as np, sys
assert keras.backend.backend() == "jax"
import tfdet
model = tfdet.create("efficientdet-test", num_classes=3, image_size=(65, 64))
model.load_weights(sys.argv[1])
images = np.load(sys.argv[2])
groups = (model.trainable_variables, model.non_trainable_variables)
state = [[v.value for v in group] for group in groups]
run = jax.jit(lambda images: model.stateless_call(*state, images)[0])
np.savez(sys.argv[3], **{k: np.asarray(v) for k, v in run(images).items()})
"""


@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="JAX is not installed")
def test_the_forward_pass_is_the_same_on_jax(small, tmp_path):
    model = small(image_size=(65, 64))
    images = _images(65, 64)
    paths = [tmp_path / name for name in ("model.weights.h5", "images.npy", "raw.npz")]
    model.save_weights(paths[0])
    np.save(paths[1], images)
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", _ON_JAX, *paths], check=True, env=environment)
    with np.load(paths[2]) as raw:
        for name, expected in model(images).items():
            np.testing.assert_allclose(raw[name], expected, atol=1e-4)


PACKED = {"filters": 8, "blocks": 2, "tower_repeats": 1, "groups": 4}


def test_a_packed_head_trains_detects_and_comes_back(small, tmp_path):
    model = small(head="packed", packed=PACKED)
    raw = model(_images())
    # 64 + 16 + 4 + 1 + 1 cells, and 4 + 1 + 1 of the extra maps.
    assert raw["class_logits"].shape == (2, 9 * 92, 3)
    assert len(model.anchors((64, 64))) == 9 * 92
    model.compile(optimizer=keras.optimizers.Adam(0.01), run_eagerly=True)
    losses = [model.train_on_batch(*_batch(), return_dict=True)["loss"] for _ in range(5)]
    assert losses[-1] < 0.8 * losses[0]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for name, values in model.detect(_images()).items():
        np.testing.assert_array_equal(again.detect(_images())[name], values)


def test_a_packed_head_says_what_it_cannot_pack(small):
    with pytest.raises(UserError, match=r"image_size 72x64: .* multiples of 32"):
        small(head="packed", packed=PACKED, image_size=(72, 64))
    with pytest.raises(UserError, match="fpn_width=16 cannot be split into groups=32"):
        registry.config("efficientdet-test", head="packed")
