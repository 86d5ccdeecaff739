import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdet.errors import UserError
from tfdet.ops.nms import NMSConfig, non_max_suppression, survivors

BOXES = np.float32(
    [
        [10, 10, 50, 50],
        [12, 12, 52, 52],
        [10, 30, 50, 70],
        [100, 100, 160, 180],
        [104, 96, 158, 176],
    ]
)
SCORES = np.float32([0.9, 0.8, 0.7, 0.6, 0.55])
LABELS = np.int32([0, 0, 1, 2, 2])
ALL_CONFIGS = [
    NMSConfig(method, mode, max_detections=20, inclusive_pixels=inclusive)
    for method in ("hard", "diou", "linear", "gaussian")
    for mode in ("per_class", "global")
    for inclusive in (False, True)
]


def slow_factor(box, other, config):
    """What a chosen box does to the score of another one, in float64."""
    border = 1.0 if config.inclusive_pixels else 0.0
    width = max(0.0, min(box[2], other[2]) - max(box[0], other[0]) + border)
    height = max(0.0, min(box[3], other[3]) - max(box[1], other[1]) + border)
    areas = [(b[2] - b[0] + border) * (b[3] - b[1] + border) for b in (box, other)]
    iou = width * height / (sum(areas) - width * height)
    if config.method == "gaussian":
        return np.exp(-(iou**2) / config.value("sigma"))
    if config.method == "linear":
        return 1 - iou if iou > config.value("iou_threshold") else 1.0
    if config.method == "diou":
        centers = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in (box, other)]
        hull_width = max(box[2], other[2]) - min(box[0], other[0]) + border
        hull_height = max(box[3], other[3]) - min(box[1], other[1]) + border
        distance = np.subtract(*centers)
        iou -= (distance @ distance) / (hull_width**2 + hull_height**2)
    return 0.0 if iou > config.value("iou_threshold") else 1.0


def slow_suppression(boxes, scores, labels, config):
    """[(index, score)] of one set of boxes that all compete, as the papers write it."""
    boxes, live = boxes.astype(np.float64), dict(enumerate(scores.astype(np.float64)))
    picked = []
    while live:
        best = max(live, key=live.get)
        score = live.pop(best)
        if score <= config.value("score_threshold"):
            break
        picked.append((best, score))
        live = {i: s * slow_factor(boxes[best], boxes[i], config) for i, s in live.items()}
    return picked


def slow_nms(boxes, scores, labels, config):
    """Every class on its own (or all together), joined, best first."""
    groups = np.unique(labels) if config.mode == "per_class" else [None]
    picked = []
    for group in groups:
        members = np.flatnonzero(labels == group) if group is not None else np.arange(len(labels))
        part = slow_suppression(boxes[members], scores[members], labels, config)
        picked += [(members[i], score) for i, score in part]
    return sorted(picked, key=lambda pair: -pair[1])[: config.max_detections]


def suppress(boxes, scores, labels, config):
    """[(index, score)] of one image."""
    index, score, count = non_max_suppression(boxes[None], scores[None], labels[None], config)
    return list(zip(np.array(index)[0], np.array(score)[0], strict=True))[: int(count[0])]


def random_boxes(seed, count=60, classes=3):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 60, (count, 2))], axis=1)
    return (
        boxes.astype(np.float32),
        rng.uniform(0, 1, count).astype(np.float32),
        rng.integers(0, classes, count).astype(np.int32),
    )


@pytest.mark.parametrize(
    ("config", "index", "scores"),
    [
        (NMSConfig("hard", "global"), [0, 2, 3], [0.9, 0.7, 0.6]),
        (NMSConfig(mode="global"), [0, 3, 2, 1, 4], [0.9, 0.6, 0.56052, 0.16111, 0.14418]),
        (NMSConfig(), [0, 2, 3, 1, 4], [0.9, 0.7, 0.6, 0.20689, 0.14418]),
        (
            NMSConfig(inclusive_pixels=True),
            [0, 2, 3, 1, 4],
            [0.9, 0.7, 0.6, 0.20427, 0.14305],
        ),
    ],
)
def test_published_scores(config, index, scores):
    picked = suppress(BOXES, SCORES, LABELS, config)
    assert [i for i, _ in picked] == index
    np.testing.assert_allclose([s for _, s in picked], scores, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", ALL_CONFIGS, ids=lambda c: f"{c.method}-{c.mode}")
def test_equal_to_the_slow_definition(config, seed):
    boxes, scores, labels = random_boxes(seed)
    picked = suppress(boxes, scores, labels, config)
    expected = slow_nms(boxes, scores, labels, config)
    assert [i for i, _ in picked] == [i for i, _ in expected]
    np.testing.assert_allclose([s for _, s in picked], [s for _, s in expected], rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.3, 0.5])
def test_gaussian_equals_tensorflow_with_half_the_sigma(sigma):
    boxes, scores, labels = random_boxes(7)
    index, score = tf.image.non_max_suppression_with_scores(
        boxes, scores, 100, iou_threshold=1.0, score_threshold=0.001, soft_nms_sigma=sigma / 2
    )
    picked = suppress(boxes, scores, labels, NMSConfig(mode="global", sigma=sigma))
    assert [i for i, _ in picked] == index.numpy().tolist()
    np.testing.assert_allclose([s for _, s in picked], score, rtol=1e-5)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_hard_equals_tensorflow(threshold):
    boxes, scores, labels = random_boxes(8)
    index = tf.image.non_max_suppression(boxes, scores, 100, threshold)
    picked = suppress(boxes, scores, labels, NMSConfig("hard", "global", threshold))
    assert [i for i, _ in picked] == index.numpy().tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from(ALL_CONFIGS))
def test_invariants(seed, limit, config):
    config = dataclasses.replace(config, max_detections=limit)
    boxes, scores, labels = random_boxes(seed, count=20)
    picked = suppress(boxes, scores, labels, config)
    index, kept = [i for i, _ in picked], [s for _, s in picked]
    assert len(index) == len(set(index)) <= limit
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == scores.max() and index[0] == scores.argmax()
    assert all(score <= scores[i] for i, score in picked)


def test_images_of_a_batch_do_not_meet():
    config = NMSConfig(max_detections=8)
    images = [random_boxes(seed, count=15) for seed in range(4)]
    together = non_max_suppression(*(np.stack(part) for part in zip(*images, strict=True)), config)
    for i, image in enumerate(images):
        alone = non_max_suppression(*(part[None] for part in image), config)
        for batched, single in zip(together, alone, strict=True):
            np.testing.assert_array_equal(batched[i], single[0])


def test_equal_scores_keep_their_order():
    boxes = np.float32([[50 * i, 0, 50 * i + 10, 10] for i in range(6)])
    picked = suppress(boxes, np.full(6, 0.5, np.float32), np.zeros(6, np.int32), NMSConfig())
    assert [i for i, _ in picked] == list(range(6))


def test_score_must_be_greater_than_the_threshold():
    config = NMSConfig("hard", score_threshold=0.6)
    assert [i for i, _ in suppress(BOXES, SCORES, LABELS, config)] == [0, 2]
    at_threshold = dataclasses.replace(config, score_threshold=float(SCORES[2]))
    assert [i for i, _ in suppress(BOXES, SCORES, LABELS, at_threshold)] == [0]


@pytest.mark.parametrize("config", ALL_CONFIGS[::2], ids=lambda c: f"{c.method}-{c.mode}")
def test_what_is_not_finite_is_never_picked_and_harms_nobody(config):
    boxes = np.concatenate([BOXES, BOXES[:3], BOXES[:1] * 0])
    scores = np.concatenate([SCORES, np.float32([1.0, 1.0, np.nan, 0.0])])
    labels = np.concatenate([LABELS, np.int32([0, 0, 0, 0])])
    boxes[5, 2], boxes[6, 0] = np.inf, np.nan
    assert suppress(boxes, scores, labels, config) == suppress(BOXES, SCORES, LABELS, config)


@pytest.mark.parametrize("batch", [0, 1])
def test_nothing_to_pick(batch):
    scores = np.zeros((batch, 5), np.float32)
    index, score, count = non_max_suppression(
        np.zeros((batch, 5, 4), np.float32), scores, np.zeros((batch, 5), np.int32), NMSConfig()
    )
    assert index.shape == score.shape == (batch, 100)
    np.testing.assert_array_equal(count, np.zeros(batch))


def test_compiles_with_xla():
    config = NMSConfig(max_detections=5)
    batch = [part[None] for part in random_boxes(3, count=12)]
    compiled = tf.function(
        lambda *x: non_max_suppression(*x, config), jit_compile=True, autograph=False
    )
    for xla, plain in zip(compiled(*batch), non_max_suppression(*batch, config), strict=True):
        np.testing.assert_allclose(xla, plain, rtol=1e-6)


def test_round_trip_through_json():
    config = NMSConfig("linear", "global", iou_threshold=0.4, max_candidates=0)
    assert NMSConfig(**json.loads(json.dumps(vars(config)))) == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "soft"}, "'gaussian'.*got 'soft'"),
        ({"mode": "all"}, "'per_class'.*got 'all'"),
        ({"method": "hard", "sigma": 0.5}, "'hard' has no sigma"),
        ({"method": "gaussian", "iou_threshold": 0.5}, "'gaussian' has no iou_threshold"),
        ({"score_threshold": -1.0}, "got -1"),
        ({"method": "hard", "iou_threshold": 50}, "got 50"),
        ({"sigma": 0.0}, "sigma > 0"),
        ({"max_detections": 0}, "max_detections >= 1"),
    ],
)
def test_wrong_configs_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        NMSConfig(**arguments)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    spread=st.sampled_from([5, 60, 400]),
    quantum=st.sampled_from([0.0, 8.0]),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
)
def test_survivors_are_those_of_the_greedy_rule(seed, spread, quantum, threshold):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, spread, (3, 80, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 40, (3, 80, 2))], -1)
    if quantum:  # equal boxes, and overlaps of just the threshold
        boxes = np.round(boxes / quantum) * quantum
    boxes = boxes.astype(np.float32)
    boxes[1, 5] = np.nan
    boxes[2, 10:20] = boxes[2, 10]
    is_candidate = rng.random((3, 80)) < 0.9
    found = np.array(survivors(boxes, is_candidate, threshold))
    usable = is_candidate & np.isfinite(boxes).all(-1)
    scores = np.where(usable, np.linspace(1, 0.1, 80, dtype=np.float32), 0)
    config = NMSConfig("hard", iou_threshold=threshold, max_detections=80)
    index, _, count = non_max_suppression(boxes, scores, np.zeros((3, 80), np.int32), config)
    for row in range(3):
        np.testing.assert_array_equal(np.flatnonzero(found[row]), index[row][: count[row]])
