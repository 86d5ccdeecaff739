"""What is special in Faster R-CNN."""

import keras
import numpy as np
import pytest

from tfdet import profiling, registry
from tfdet.errors import UserError
from tfdet.losses.roi import CODE_WEIGHTS
from tfdet.ops import boxes as box_ops

# Operations in mmdetection's convention, and all parameters but moving statistics; those of other
# sizes are in tests/nas/counts_test.py.
PUBLISHED = [
    ("faster-rcnn-r50", (800, 1280), 207.07, 41.75),
    ("faster-rcnn-r101", (800, 1280), 283.14, 60.75),
]


def batch():
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3)).astype(np.uint8)
    boxes = np.array([[[4, 6, 40, 44], [30, 20, 60, 62]], [[0, 0, 0, 0]] * 2], np.float32)
    return images, {"boxes": boxes, "labels": np.array([[1, 2], [-1, -1]], np.int32)}


@pytest.mark.parametrize(("name", "size", "operations", "parameters"), PUBLISHED)
def test_counts_are_the_published_ones(name, size, operations, parameters):
    profile = profiling.profile(name, size)
    assert round(profile.mmdet_flops / 1e9, 2) == operations
    assert round(profile.parameters / 1e6, 2) == parameters


def test_perfect_predictions_are_the_objects():
    model = registry.create("faster-rcnn-test")
    _, targets = batch()
    boxes = targets["boxes"][:1]
    regions = np.concatenate([boxes + 3, boxes - 2, [[[0, 0, 20, 20]]]], axis=1)
    regions = regions.astype(np.float32)
    logits = np.full((1, 5, 6), -20, np.float32)
    codes = np.zeros((1, 5, 5, 4), np.float32)
    for row, (label, box) in enumerate(zip([1, 2, 1, 2], [0, 1, 0, 1], strict=True)):
        logits[0, row, label] = 20
        codes[0, row, label] = box_ops.encode(boxes[0, box], regions[0, row]) * CODE_WEIGHTS
    logits[0, 4, 5] = 20
    raw = {
        "proposals": regions,
        "is_proposal": np.ones((1, 5), bool),
        "class_logits": logits,
        "box_codes": codes.reshape(1, 5, 20),
    }
    found = model.decode(raw, (64, 64))
    np.testing.assert_array_equal(found["count"], [2])
    order = np.argsort(found["labels"][0, :2])
    np.testing.assert_allclose(np.array(found["boxes"])[0, order], boxes[0], atol=1e-3)
    raw["is_proposal"][:] = False
    assert model.decode(raw, (64, 64))["count"][0] == 0


@pytest.mark.parametrize("training", [True, False])
def test_proposals_are_distinct_boxes_inside_the_image(training):
    keras.utils.set_random_seed(0)
    model = registry.create("faster-rcnn-test")
    raw = model(batch()[0], training=training)
    assert ("class_logits" in raw) != training
    assert raw["proposals"].shape == (2, 40, 4)
    for boxes, is_proposal in zip(raw["proposals"], raw["is_proposal"], strict=True):
        boxes = np.array(boxes)[np.array(is_proposal)]
        assert len(boxes) > 5 and boxes.min() >= 0 and boxes.max() <= 64
        assert np.all(boxes[:, 2:] > boxes[:, :2])


def test_every_step_looks_at_other_samples_and_a_resumed_one_at_the_same():
    model = registry.create("faster-rcnn-test", roi_loss={"samples": 6})
    images, targets = batch()
    raw = model(images)
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    chosen = []
    for step in (0, 1, 0):
        model.optimizer.iterations.assign(step)
        chosen.append(np.array(model.sampled(targets, raw)["samples"].boxes))
    assert np.any(chosen[0] != chosen[1])
    np.testing.assert_array_equal(chosen[0], chosen[2])


def test_losses_of_images_are_those_of_images_alone():
    model = registry.create("faster-rcnn-test", weight_decay=0.0)
    images, targets = batch()
    raw = model(images)
    found = np.array(model.losses_per_image(targets, raw))
    for i in range(2):
        one = keras.tree.map_structure(lambda x, i=i: x[i : i + 1], (targets, raw))
        expected = sum(float(x) for x in model.loss_terms(*one).values())
        assert found[i] == pytest.approx(expected, rel=1e-4)


def test_the_loss_of_boxes_has_a_weight():
    images, targets = batch()
    model = registry.create("faster-rcnn-test")
    weighted = registry.create("faster-rcnn-test", roi_loss={"box_weight": 3.0})
    weighted.set_weights(model.get_weights())
    once, thrice = (
        detector.loss_terms(targets, detector(images, training=True))
        for detector in (model, weighted)
    )
    assert float(once["box_loss"]) > 0
    np.testing.assert_allclose(thrice.pop("box_loss"), 3 * once.pop("box_loss"), rtol=1e-5)
    for term, value in once.items():
        np.testing.assert_allclose(thrice[term], value, rtol=1e-5)


def test_any_size_and_the_adaptive_sampling_work():
    model = registry.create("faster-rcnn-test", image_size=(61, 83), sampling_ratio=0)
    found = model.detect(np.zeros((1, 40, 90, 3), np.uint8))
    assert np.isfinite(found["boxes"]).all()


def test_half_precision_trains_with_float32_losses():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = registry.create("faster-rcnn-test")
    finally:
        keras.config.set_dtype_policy("float32")
    images, targets = batch()
    model.compile(optimizer=keras.optimizers.SGD(0.01), run_eagerly=True)
    logs = model.train_on_batch(images, targets, return_dict=True)
    assert all(np.isfinite(x) for x in logs.values())
    assert model.detect(images)["boxes"].dtype == "float32"


def test_bad_settings_are_refused():
    for changes, said in (
        ({"proposals": {"count": 0}}, "count must be"),
        ({"rpn_loss": {"negative_iou": 0.8}}, "negative_iou <= positive_iou"),
        ({"roi_loss": {"positive_share": 0.0}}, "positive_share"),
        ({"roi_loss": {"box_weight": -1.0}}, "box_weight"),
        ({"sampling_ratio": -1}, "sampling_ratio"),
    ):
        with pytest.raises(UserError, match=said):
            registry.config("faster-rcnn-test", **changes)
