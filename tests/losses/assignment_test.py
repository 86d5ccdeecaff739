import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdet.losses.assignment import IGNORED, assign
from tfdet.ops import boxes as box_ops
from tfdet.ops.anchors import AnchorConfig, anchor_counts, anchors

SMALL = AnchorConfig(3, 5)
SMALL_ANCHORS = anchors(SMALL, (64, 64))


def slow_match(anchor_boxes, boxes, labels, positive_iou=0.5):
    """Index of each anchor's object or -1, from the whole IoU matrix, as the published matcher."""
    match = np.full(len(anchor_boxes), -1)
    objects = np.flatnonzero(labels >= 0)
    if not len(objects):
        return match
    iou = np.array(box_ops.iou(boxes[objects], anchor_boxes))  # [objects, K]
    is_positive = iou.max(axis=0) >= positive_iou
    match[is_positive] = objects[iou.argmax(axis=0)][is_positive]
    for row in reversed(range(len(objects))):  # the lower index is written last and wins
        if iou[row].max() > 0:
            match[iou[row].argmax()] = objects[row]
    return match


def slow_proposal_match(anchor_boxes, boxes, labels, positive, negative, rescue):
    """Index of each anchor's object, -1 or `IGNORED`, as a region proposal network wants it.

    `rescue`: smallest IoU of an object's best anchors that are positive whatever their IoU is.
    """
    match = np.full(len(anchor_boxes), -1)
    objects = np.flatnonzero(labels >= 0)
    if not len(objects):
        return match
    iou = np.array(box_ops.iou(boxes[objects], anchor_boxes))  # [objects, K]
    match[iou.max(axis=0) >= negative] = IGNORED
    best = iou.max(axis=1, keepdims=True)
    is_best = ((iou == best) & (best > 0) & (best >= rescue)).any(axis=0)
    is_positive = (iou.max(axis=0) >= positive) | is_best
    match[is_positive] = objects[iou.argmax(axis=0)][is_positive]
    return match


def targets(boxes, labels, slots=6):
    """One padded image."""
    padded = np.zeros((1, slots, 4), np.float32)
    padded_labels = np.full((1, slots), -1, np.int32)
    padded[0, : len(boxes)] = np.reshape(boxes, (-1, 4))
    padded_labels[0, : len(labels)] = labels
    return padded, padded_labels


def random_objects(seed, count, quantum=1.0, size=64):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, (size - 4) / quantum, (count, 2)) * quantum
    far = np.minimum(corners + rng.integers(4 / quantum, 40 / quantum, (count, 2)) * quantum, size)
    boxes = np.concatenate([corners, far], axis=1).astype(np.float32)
    return boxes, rng.integers(0, 3, count).astype(np.int32)


def check_match(assigned, boxes, labels, match):
    """The assignment is exactly `match`, written out."""
    expected = np.where(match >= 0, labels[match], match)
    np.testing.assert_array_equal(np.array(assigned.labels)[0], expected)
    expected_boxes = np.where((match >= 0)[:, None], boxes[match], 0)
    np.testing.assert_array_equal(np.array(assigned.boxes)[0], expected_boxes)


def test_published_assignment():
    config, size = AnchorConfig(), (512, 512)
    boxes, labels = targets([[120, 100, 260, 200], [310, 300, 322, 318]], [0, 17], slots=100)
    assigned = assign(anchors(config, size), boxes, labels)
    is_positive = np.array(assigned.labels)[0] >= 0
    codes = np.array(box_ops.encode(assigned.boxes[0], anchors(config, size)))
    total = np.abs(np.where(is_positive[:, None], codes, 0)).sum(axis=1)
    edges = np.cumsum(anchor_counts(config, size))[:-1]
    assert [int(level.sum()) for level in np.split(is_positive, edges)] == [1, 23, 13, 0, 0]
    np.testing.assert_allclose(
        [level.sum() for level in np.split(total, edges)],
        [1.83744, 13.94825, 8.90550, 0, 0],
        atol=1e-5,
    )
    # The second object's best IoU is shared by many anchors; in float32 the first of them wins.
    np.testing.assert_array_equal(np.flatnonzero(np.array(assigned.labels)[0] == 17), [22230])


# Whole multiples of 8 pixels make ties between anchors and between objects frequent.
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 6), st.sampled_from([0.5, 1.0, 8.0]))
def test_equal_to_the_slow_definition(seed, count, quantum):
    boxes, labels = targets(*random_objects(seed, count, quantum))
    assigned = assign(SMALL_ANCHORS, boxes, labels)
    check_match(assigned, boxes[0], labels[0], slow_match(SMALL_ANCHORS, boxes[0], labels[0]))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 6),
    quantum=st.sampled_from([0.5, 1.0, 8.0]),
    limits=st.sampled_from([(0.7, 0.3, 0.3), (0.5, 0.4, 0.0), (0.3, 0.3, 0.9)]),
)
def test_matches_of_proposals_equal_the_slow_definition(seed, count, quantum, limits):
    boxes, labels = targets(*random_objects(seed, count, quantum))
    positive, negative, rescue = limits
    assigned = assign(SMALL_ANCHORS, boxes, labels, None, positive, negative, "ties", rescue)
    match = slow_proposal_match(SMALL_ANCHORS, boxes[0], labels[0], *limits)
    check_match(assigned, boxes[0], labels[0], match)
    np.testing.assert_array_equal(np.array(assigned.objects)[0], np.maximum(match, -1))


@pytest.mark.parametrize("positive_iou", [0.2, 0.4, 0.9])
def test_threshold(positive_iou):
    boxes, labels = targets(*random_objects(5, 4))
    assigned = assign(SMALL_ANCHORS, boxes, labels, positive_iou=positive_iou)
    match = slow_match(SMALL_ANCHORS, boxes[0], labels[0], positive_iou)
    check_match(assigned, boxes[0], labels[0], match)


def test_iou_of_exactly_one_half_is_positive():
    # Anchor 1 is the object's best, so that anchor 0 is judged by its IoU alone.
    anchor_boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 20]])
    boxes, labels = targets([[0, 0, 10, 20]], [2])
    np.testing.assert_array_equal(assign(anchor_boxes, boxes, labels).labels, [[2, 2]])


def test_shared_best_anchor_goes_to_the_first_object():
    anchor_boxes = np.float32([[0, 0, 30, 30], [100, 100, 110, 110]])
    boxes, labels = targets([[0, 0, 3, 3], [0, 0, 20, 20]], [4, 5])
    np.testing.assert_array_equal(assign(anchor_boxes, boxes, labels).labels, [[4, -1]])
    np.testing.assert_array_equal(
        assign(anchor_boxes, boxes[:, [1, 0]], labels[:, [1, 0]]).labels, [[5, -1]]
    )


def test_a_claim_beats_a_larger_iou():
    # Anchor 0 overlaps object 1 more, but is the best that object 0 has.
    anchor_boxes = np.float32([[0, 0, 20, 20], [0, 0, 19, 20]])
    boxes, labels = targets([[0, 0, 3, 20], [0, 0, 20, 20]], [0, 1])
    iou = np.array(box_ops.iou(anchor_boxes, boxes[0, :2]))
    assert iou[:, 0].argmax() == 1 and iou[1, 1] > 0.5
    np.testing.assert_array_equal(assign(anchor_boxes, boxes, labels).labels, [[1, 0]])


@pytest.mark.parametrize("slots", [0, 1, 5])
def test_no_objects_means_background(slots):
    boxes, labels = targets([], [], slots=slots)
    assigned = assign(SMALL_ANCHORS, boxes, labels)
    assert (np.array(assigned.labels) == -1).all()
    assert (np.array(assigned.boxes) == 0).all()


def test_an_empty_batch():
    assigned = assign(SMALL_ANCHORS, np.zeros((0, 3, 4), np.float32), np.zeros((0, 3), np.int32))
    assert assigned.labels.shape == (0, len(SMALL_ANCHORS))
    assert assigned.boxes.shape == (0, len(SMALL_ANCHORS), 4)


@pytest.mark.parametrize(
    "box",
    [
        [5, 5, 5, 30],
        [30, 30, 10, 10],
        [0, 0, 0, 0],
        [np.nan, 0, 9, 9],
        [0, 0, np.inf, 9],
        [900, 900, 950, 950],
    ],
    ids=["flat", "reversed", "zero", "nan", "infinite", "outside"],
)
def test_boxes_that_cannot_be_learnt_are_left_out(box):
    good, labels = random_objects(1, 2)
    boxes, padded = targets(good, labels)
    expected = assign(SMALL_ANCHORS, boxes, padded)
    boxes, padded = targets([good[0], box, good[1]], [labels[0], 2, labels[1]])
    assigned = assign(SMALL_ANCHORS, boxes, padded)
    np.testing.assert_array_equal(assigned.labels, expected.labels)
    np.testing.assert_array_equal(assigned.boxes, expected.boxes)


def test_crowds_are_left_out_only_when_asked():
    boxes, labels = targets(*random_objects(2, 3))
    is_crowd = np.array([[False, True, False, False, False, False]])
    without = labels.copy()
    without[0, 1] = -1
    skipped = assign(SMALL_ANCHORS, boxes, labels, is_crowd)
    np.testing.assert_array_equal(skipped.labels, assign(SMALL_ANCHORS, boxes, without).labels)
    kept = assign(SMALL_ANCHORS, boxes, labels)
    assert (np.array(kept.boxes) == boxes[0, 1]).all(-1).any()
    assert not (np.array(skipped.boxes) == boxes[0, 1]).all(-1).any()


def test_batched_in_a_graph_equals_one_by_one():
    images = [targets(*random_objects(seed, seed)) for seed in range(4)]
    boxes, labels = (np.concatenate(part) for part in zip(*images, strict=True))
    signature = [tf.TensorSpec([None, 6, 4]), tf.TensorSpec([None, 6], tf.int32)]
    graph = tf.function(
        lambda b, n: assign(SMALL_ANCHORS, b, n), input_signature=signature, autograph=False
    )
    together = graph(boxes, labels)
    for i, image in enumerate(images):
        alone = assign(SMALL_ANCHORS, *image)
        np.testing.assert_array_equal(together.labels[i], alone.labels[0])
        np.testing.assert_array_equal(together.boxes[i], alone.boxes[0])


def test_padding_may_stand_between_objects():
    boxes, labels = targets(*random_objects(3, 3))
    spread, spread_labels = np.zeros_like(boxes), np.full_like(labels, -1)
    spread[0, [1, 3, 5]], spread_labels[0, [1, 3, 5]] = boxes[0, :3], labels[0, :3]
    expected, assigned = (
        assign(SMALL_ANCHORS, *pair) for pair in ((boxes, labels), (spread, spread_labels))
    )
    np.testing.assert_array_equal(assigned.labels, expected.labels)
    np.testing.assert_array_equal(assigned.boxes, expected.boxes)


@pytest.mark.parametrize("rescue", ["first", "ties", "none"])
def test_anchors_of_each_image_are_matched_as_if_shared(rescue):
    boxes = np.stack([random_objects(seed, 4)[0] for seed in (1, 2)])
    labels = np.array([[0, 1, 2, 3], [2, 1, -1, -1]], np.int32)
    own = np.stack([SMALL_ANCHORS, SMALL_ANCHORS[::-1]])
    found = assign(own, boxes, labels, negative_iou=0.3, rescue=rescue)
    for row in range(2):
        alone = assign(
            own[row], boxes[row : row + 1], labels[row : row + 1], negative_iou=0.3, rescue=rescue
        )
        for a, b in zip(found, alone, strict=True):
            np.testing.assert_array_equal(a[row], b[0])


def test_rescue_may_ask_for_an_overlap_or_be_off():
    boxes, labels = targets([[0, 0, 10, 4]], [1])
    iou = np.array(box_ops.iou(boxes[0, :1], SMALL_ANCHORS))[0].max()
    assert 0 < iou < 0.5
    for options, is_found in (
        ({"rescue": "ties", "rescue_iou": iou - 0.01}, True),
        ({"rescue": "ties", "rescue_iou": iou + 0.01}, False),
        ({"rescue": "none"}, False),
    ):
        found = assign(SMALL_ANCHORS, boxes, labels, **options)
        assert np.any(np.array(found.labels) == 1) == is_found
