"""Matching and loss of RetinaNet; golden values are the published implementation's."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfdet import registry
from tfdet.losses.assignment import IGNORED, assign
from tfdet.losses.retinanet import CODE_WEIGHTS, RetinaNetLossConfig, retinanet_loss_terms
from tfdet.ops import boxes as box_ops
from tfdet.ops.anchors import anchors

SIZE = (256, 320)
ANCHORS = anchors(registry.config("retinanet-r50").anchors, SIZE)
BOXES = np.array(
    [[20, 30, 60, 80], [10, 10, 300, 240], [100, 60, 260, 200], [200, 20, 230, 42]], np.float32
)[None]
LABELS = np.array([[3, 7, 80, 1]]) - 1
COUNTS = (11520, 2880, 720, 180, 54)


def matched():
    return assign(ANCHORS, BOXES, LABELS, positive_iou=0.5, negative_iou=0.4, rescue="ties")


def test_matches_are_the_published_ones():
    labels, boxes = (np.array(x)[0] for x in (matched().labels, matched().boxes))
    ends = np.cumsum(COUNTS)
    assert len(labels) == ends[-1]
    levels = np.split(labels, ends[:-1])
    assert [int(np.sum(x >= 0)) for x in levels] == [44, 3, 36, 14, 0]
    assert [int(np.sum(x == IGNORED)) for x in levels] == [69, 46, 67, 28, 0]
    is_positive = labels >= 0
    codes = np.array(box_ops.encode(boxes[is_positive], ANCHORS[is_positive])) * CODE_WEIGHTS
    assert np.sum(codes) == pytest.approx(24.4705, abs=1e-3)


def test_losses_are_the_published_ones():
    raw = {
        "class_logits": np.full((1, len(ANCHORS), 80), -math.log(99), np.float32),
        "box_codes": np.zeros((1, len(ANCHORS), 4), np.float32),
    }
    targets = {"boxes": BOXES, "labels": LABELS}
    terms = retinanet_loss_terms(targets, raw, ANCHORS, RetinaNetLossConfig())
    assert float(terms["class_loss"]) == pytest.approx(1.126185, abs=2e-6)
    assert float(terms["box_loss"]) == pytest.approx(1.08043, abs=2e-5)


def test_ignored_anchors_have_neither_loss_nor_gradient():
    labels = np.array(matched().labels)[0]
    logits = tf.Variable(tf.random.normal((1, len(ANCHORS), 4), seed=1))
    raw = {"class_logits": logits, "box_codes": tf.zeros((1, len(ANCHORS), 4))}
    targets = {"boxes": BOXES, "labels": LABELS % 4}
    with tf.GradientTape() as tape:
        loss = retinanet_loss_terms(targets, raw, ANCHORS, RetinaNetLossConfig())["class_loss"]
    gradient = np.abs(np.array(tape.gradient(loss, logits))[0]).sum(axis=-1)
    np.testing.assert_array_equal(gradient == 0, labels == IGNORED)


def test_without_objects_the_box_loss_is_zero():
    raw = {
        "class_logits": np.zeros((2, len(ANCHORS), 3), np.float32),
        "box_codes": np.ones((2, len(ANCHORS), 4), np.float32),
    }
    targets = {"boxes": np.zeros((2, 1, 4), np.float32), "labels": np.full((2, 1), -1)}
    terms = retinanet_loss_terms(targets, raw, ANCHORS, RetinaNetLossConfig())
    assert float(terms["box_loss"]) == 0
    # Every logit is 0: 0.75 * 0.5^2 * log 2 each, over the two images.
    expected = len(ANCHORS) * 3 * 0.75 * 0.25 * math.log(2)
    assert float(terms["class_loss"]) == pytest.approx(expected, rel=1e-5)


def test_tied_anchors_all_take_their_own_best_object():
    # Two anchors equally near to the first object.
    pair = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [50, 50, 60, 60]], np.float32)
    boxes = np.array([[[4, 0, 10, 4], [5, 0, 14, 9]]], np.float32)
    labels = np.array([[0, 1]])
    tied = np.array(assign(pair, boxes, labels, positive_iou=0.95, rescue="ties").labels)
    # The first anchor overlaps the second object more, with 45 / 136 against 24 / 100.
    np.testing.assert_array_equal(tied, [[1, 1, -1]])
    first = np.array(assign(pair, boxes, labels, positive_iou=0.95).labels)
    np.testing.assert_array_equal(first, [[0, 1, -1]])
    alone = np.array(assign(pair, boxes[:, :1], labels[:, :1], positive_iou=0.95).labels)
    np.testing.assert_array_equal(alone, [[0, -1, -1]])
    alone = assign(pair, boxes[:, :1], labels[:, :1], positive_iou=0.95, rescue="ties")
    np.testing.assert_array_equal(np.array(alone.labels), [[0, 0, -1]])
