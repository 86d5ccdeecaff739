"""What is special in RetinaNet, plain and packed."""

import keras
import numpy as np
import pytest

from tfdet import registry
from tfdet.losses.assignment import assign
from tfdet.losses.retinanet import CODE_WEIGHTS
from tfdet.ops import boxes as box_ops

NAMES = ["retinanet-test", "retinanet-packop-test"]


def batch():
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3)).astype(np.uint8)
    boxes = np.array([[[4, 6, 40, 44], [30, 20, 60, 62]], [[0, 0, 0, 0]] * 2], np.float32)
    return images, {"boxes": boxes, "labels": np.array([[1, 2], [-1, -1]], np.int32)}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_learnt_is_what_is_detected(name):
    """Perfect predictions, made from the targets, decode to the objects."""
    model = registry.create(name)
    _, targets = batch()
    anchors = model.anchors((64, 64))
    maps = 64 + 16 + 4 + 1 + 1 + (4 + 1 + 1 if "packop" in name else 0)
    assert len(anchors) == 9 * maps == model(np.zeros((1, 64, 64, 3)))["class_logits"].shape[1]
    assigned = assign(anchors, targets["boxes"], targets["labels"], negative_iou=0.4, rescue="ties")
    is_positive = np.array(assigned.labels)[..., None] >= 0
    codes = box_ops.encode(np.where(is_positive, assigned.boxes, anchors), anchors)
    raw = {
        "class_logits": 40.0 * keras.ops.one_hot(assigned.labels, 5) - 20.0,
        "box_codes": codes * CODE_WEIGHTS,
    }
    assert all(float(x) < 1e-5 for x in model.loss_terms(targets, raw).values())
    found = model.decode(raw, (64, 64))
    np.testing.assert_array_equal(found["count"], [2, 0])
    order = np.argsort(found["labels"][0, :2])
    np.testing.assert_allclose(np.array(found["boxes"])[0, order], targets["boxes"][0], atol=1e-3)


def test_gaps_of_the_packed_map_are_nowhere():
    plain, packed = (registry.create(name) for name in NAMES)
    anchors, doubled = plain.anchors((64, 64)), packed.anchors((64, 64))
    np.testing.assert_array_equal(doubled[: len(anchors)], anchors)
    extra = 9 * (4 + 1 + 1)
    np.testing.assert_array_equal(doubled[len(anchors) :], anchors[-extra:])
