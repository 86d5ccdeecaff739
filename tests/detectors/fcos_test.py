"""What is special in FCOS and PackDet; golden values are the published implementation's."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import registry
from tfdet.errors import UserError
from tfdet.heads.packed import cell_order
from tfdet.losses.points import assign_points
from tfdet.ops.anchors import level_sizes

SMALL_NAMES = ["fcos-test", "packdet-test"]


def batch(size=64, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (2, size, size, 3)).astype(np.uint8)
    boxes = np.array([[[4, 6, 40, 44], [30, 20, 60, 62]], [[0, 0, 0, 0]] * 2], np.float32)
    labels = np.array([[1, 2], [-1, -1]], np.int32)
    return images, {"boxes": boxes, "labels": labels}


def test_packed_post_processing_is_the_published_one():
    model = registry.create("packdet-test", image_size=(256, 320), normalize_distances=False)
    order, _ = cell_order(4, level_sizes((256, 320), 3, 7))
    row_of = np.argsort(order)
    raw = {
        "class_logits": np.full((1, 1920, 80), -10, np.float32),
        "box_distances": np.zeros((1, 1920, 4), np.float32),
        "centerness_logits": np.zeros((1, 1920), np.float32),
    }
    for (y, x), label, logit, distances, center in [
        ((5, 7), 3, 2, (20, 16, 24, 30), 1),
        ((5, 8), 3, 1, (28, 16, 16, 30), 3),
        ((5, 9), 4, 1, (28, 16, 16, 30), 3),
        ((43, 24), 7, 0, (150, 120, 170, 140), -1),
        ((32, 20), 9, 1.5, (5, 5, 40, 50), 0.5),
    ]:
        row = row_of[y * 40 + x]
        raw["class_logits"][0, row, label] = logit
        raw["box_distances"][0, row] = distances
        raw["centerness_logits"][0, row] = center
    found = {name: np.array(value)[0] for name, value in model.decode(raw, (256, 320)).items()}
    # The published image is 250x310 in a canvas of 256x320; only one box reaches its border.
    assert found["count"] == 4
    np.testing.assert_array_equal(found["labels"][:4], [3, 4, 9, 7])
    # Published boxes count their last pixels in.
    expected = np.array([[40, 28, 84, 74], [48, 28, 92, 74], [0, 0, 39, 49], [0, 0, 309, 249]])
    boxes = np.minimum(found["boxes"][:4], [310, 250, 310, 250])
    expected[:, 2:] += 1
    np.testing.assert_allclose(boxes, expected, atol=1e-4)
    scores = (0.834498, 0.834498, 0.713377, 0.366702)
    np.testing.assert_allclose(found["scores"][:4], scores, atol=1e-6)


@pytest.mark.parametrize("name", SMALL_NAMES)
def test_what_is_learnt_is_what_is_detected(name):
    """Perfect predictions, made from the targets, decode to the objects."""
    model = registry.create(name)
    _, targets = batch()
    count = model(np.zeros((1, 64, 64, 3)))["class_logits"].shape[1]
    cells = model.cells((64, 64), count)
    reach = model.config.loss.for_images((64, 64)).reach
    boxes, kinds = targets["boxes"], targets["labels"]
    labels, distances, _ = assign_points(cells, boxes, kinds, reach=reach)
    one_hot = keras.ops.one_hot(labels, model.num_classes)
    raw = {
        "class_logits": 40.0 * one_hot - 20.0,
        "box_distances": distances / cells.strides[:, None],
        "centerness_logits": np.full((2, count), 20, np.float32),
    }
    terms = model.loss_terms(targets, raw)
    assert float(terms["class_loss"]) < 1e-6 and float(terms["box_loss"]) < 1e-6
    found = model.decode(raw, (64, 64))
    np.testing.assert_array_equal(found["count"], [2, 0])
    order = np.argsort(found["labels"][0, :2])
    np.testing.assert_allclose(np.array(found["boxes"])[0, order], targets["boxes"][0], atol=1e-4)


@pytest.mark.parametrize("name", SMALL_NAMES)
def test_first_fcos_settings_learn_and_detect_in_pixels(name):
    changes = {"normalize_distances": False, "centerness_tower": "class"}
    loss = {"center_radius": 0.0, "box_loss": "iou"}
    model = registry.create(name, **changes, loss=loss)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), run_eagerly=True)
    logs = model.fit(*batch(), batch_size=2, epochs=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in logs.values())
    assert set(logs) == {"class_loss", "box_loss", "centerness_loss", "l2_loss", "loss"}


@pytest.mark.parametrize(
    ("in_training", "in_inference", "norm"),
    [
        (True, True, "separate"),
        (True, False, "joint"),
        (True, False, "separate"),
        (False, False, "separate"),
    ],
)
def test_every_mode_trains_validates_and_detects(in_training, in_inference, norm):
    packed = {"in_training": in_training, "in_inference": in_inference, "unpacked_norm": norm}
    model = registry.create("packdet-test", packed=packed)
    images, targets = batch()
    for training, is_packed in ((True, in_training), (False, in_inference)):
        raw = model(images, training=training)
        # 64 + 16 + 4 + 1 + 1 cells, 4 + 1 + 1 of them twice; the packed map is 12 x 8.
        assert raw["class_logits"].shape[1] == (96 if is_packed else 92)
        terms = model.loss_terms(targets, raw)
        assert all(np.isfinite(float(x)) for x in terms.values())
    assert model.detect(images)["boxes"].shape == (2, 100, 4)


def test_all_modes_share_their_weights():
    modes = [registry.create("packdet-test")]
    for norm in ("separate", "joint"):
        packed = {"in_inference": False, "unpacked_norm": norm}
        modes.append(registry.create("packdet-test", packed=packed))
    shapes = [[(w.path.split("/", 1)[1], tuple(w.shape)) for w in m.weights] for m in modes]
    assert shapes[0] == shapes[1] == shapes[2]


def test_a_packed_head_refuses_sizes_that_do_not_pack():
    with pytest.raises(UserError, match="multiples of 32"):
        registry.config("packdet-r50", image_size=(800, 1333))
    config = registry.config("packdet-r50")
    with pytest.raises(UserError, match="pattern must be 1 to 5"):
        dataclasses.replace(config, packed=dataclasses.replace(config.packed, pattern=6))


def test_a_plain_head_takes_any_size():
    model = registry.create("fcos-test", image_size=(61, 83))
    found = model.detect(np.zeros((1, 40, 90, 3), np.uint8))
    assert np.isfinite(found["boxes"]).all()


@pytest.mark.parametrize("pattern", [1, 2, 3, 4, 5])
def test_every_pattern_has_a_cell_per_prediction(pattern):
    model = registry.create("packdet-test", image_size=(128, 128), packed={"pattern": pattern})
    raw = model(np.zeros((1, 128, 128, 3), np.uint8))
    count = raw["class_logits"].shape[1]
    cells = model.cells((128, 128), count)
    assert len(cells.points) == count == 24 * 16
    assert np.sum((cells.points < 0).all(axis=1)) == {1: 43, 2: 22, 3: 43, 4: 22, 5: 0}[pattern]


@pytest.mark.parametrize("name", ["fcos-mnv2", "packdet-mnv2"])
def test_mobilenet_uses_the_first_fcos_settings(name):
    config = registry.config(name)
    assert (config.normalize_distances, config.centerness_tower) == (False, "class")
    assert (config.loss.center_radius, config.loss.box_loss) == (0.0, "iou")
    assert (config.batch_norm, config.frozen_stages) == ("synchronized", 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL_NAMES)
def test_a_few_images_are_learnt_by_heart(name):
    keras.utils.set_random_seed(0)
    model = registry.create(name, weight_decay=0.0)
    images, targets = batch()
    model.compile(optimizer=keras.optimizers.Adam(3e-3))
    data = tf.data.Dataset.from_tensors((images, targets)).repeat(400)
    model.fit(data, epochs=1, verbose=0)
    found = model.predict(images, verbose=0)
    assert found["count"][0] >= 2
    for box, label in zip(targets["boxes"][0], targets["labels"][0], strict=True):
        is_same = found["labels"][0] == label
        assert np.min(np.max(np.abs(found["boxes"][0] - box), axis=-1)[is_same]) < 4


@pytest.mark.parametrize("name", SMALL_NAMES)
def test_half_precision_trains_with_float32_variables(name):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = registry.create(name)
    finally:
        keras.config.set_dtype_policy("float32")
    images, targets = batch()
    raw = model(images)
    dtypes = [keras.backend.standardize_dtype(raw[key].dtype) for key in raw]
    assert dtypes == ["float16", "float32", "float16"]
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    model.compile(optimizer=keras.optimizers.SGD(0.01), run_eagerly=True)
    logs = model.train_on_batch(images, targets, return_dict=True)
    assert all(np.isfinite(x) for x in logs.values())
