"""What is special in Mask R-CNN."""

import numpy as np
import pytest

from tfdet import profiling, registry
from tfdet.errors import UserError


def batch():
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3)).astype(np.uint8)
    boxes = np.array([[[4, 6, 40, 44], [30, 20, 60, 62]], [[0, 0, 0, 0]] * 2], np.float32)
    masks = np.random.default_rng(1).integers(0, 2, (2, 2, 28, 28)).astype(np.uint8)
    labels = np.array([[1, 2], [-1, -1]], np.int32)
    return images, {"boxes": boxes, "labels": labels, "masks": masks}


def test_counts_are_the_published_ones():
    profile = profiling.profile("mask-rcnn-r50", (800, 1280))
    # mmdetection's 260.14, which counts the ReLUs of the mask head too.
    assert profile.mmdet_flops / 1e9 == pytest.approx(260.14, rel=3e-4)
    assert profile.parts["mask_head"].parameters == 2_643_280
    assert round(profile.parameters / 1e6, 2) == 44.40


def test_masks_are_probabilities_and_padding_has_none():
    model = registry.create("mask-rcnn-test", **{"nms.score_threshold": 0.0})
    images, _ = batch()
    found = model.predict(images[:, :50], verbose=0)
    assert found["masks"].shape == (2, 100, 28, 28) and found["count"].min() > 0
    for masks, count in zip(found["masks"], found["count"], strict=True):
        assert masks.min() >= 0 and masks.max() <= 1 and not masks[count:].any()


def test_targets_without_masks_are_refused():
    model = registry.create("mask-rcnn-test")
    images, targets = batch()
    del targets["masks"]
    with pytest.raises(UserError, match="learns from masks"):
        model.loss_terms(targets, model(images, training=True))
