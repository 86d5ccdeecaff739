import numpy as np
import tensorflow as tf

import tfdet
from tfdet.losses import shared
from tfdet.losses.assignment import assign

ANCHORS = np.float32([[0, 0, 8, 8], [8, 0, 16, 8]])
BOXES = np.float32([[[0, 0, 8, 7]]])
LABELS = np.int32([[2]])


def test_equal_questions_have_one_answer_within_and_their_own_outside():
    boxes, labels = tf.constant(BOXES), tf.constant(LABELS)
    with shared.answers():
        first = assign(ANCHORS, boxes, labels)
        assert assign(ANCHORS, boxes, labels) is first
        assert assign(ANCHORS, boxes, labels, positive_iou=0.9) is not first
        other = assign(ANCHORS, tf.constant(BOXES + 8), labels)
    np.testing.assert_array_equal(first.labels, [[2, -1]])
    np.testing.assert_array_equal(other.labels, [[-1, -1]])
    assert assign(ANCHORS, boxes, labels) is not first


def test_no_object_takes_the_place_of_one_that_is_gone():
    with shared.answers():
        for shift in (0.0, 8.0, 0.0, 8.0):
            found = assign(
                ANCHORS, tf.constant(BOXES + np.float32([shift, 0, shift, 0])), tf.constant(LABELS)
            )
            np.testing.assert_array_equal(found.labels, [[2, -1] if shift == 0 else [-1, 2]])


def test_a_cascade_matches_objects_once_and_has_the_losses_of_its_parts():
    model = tfdet.create("dy-efficientdet-test")
    images = np.random.default_rng(0).uniform(0, 255, (2, *model.image_size, 3)).astype("float32")
    targets = {
        "boxes": tf.constant([[[4.0, 4, 30, 40]], [[8, 8, 60, 30]]]),
        "labels": tf.constant([[1], [2]]),
    }
    raw = model(images)
    terms = model.loss_terms(targets, raw)
    for role, part in (("first", model.first), ("second", model.second)):
        for name, value in part.loss_terms(targets, raw[role]).items():
            weight = model.config.first_weight if role == "first" else 1.0
            np.testing.assert_allclose(terms[f"{role}_{name}"], weight * value, rtol=1e-6)
    graph = tf.function(lambda: model.loss_terms(targets, raw)).get_concrete_function().graph
    assert len([op for op in graph.get_operations() if op.type.endswith("While")]) == 1
