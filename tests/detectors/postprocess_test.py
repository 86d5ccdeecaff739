import numpy as np
import pytest
import tensorflow as tf

from tfdet.detectors.postprocess import detections, object_detections, postprocess
from tfdet.losses.assignment import assign
from tfdet.ops import boxes as box_ops
from tfdet.ops.anchors import AnchorConfig, anchor_levels, anchors
from tfdet.ops.gather import gather_rows
from tfdet.ops.nms import NMSConfig, non_max_suppression

SIZE = (64, 96)
ANCHORS = anchors(AnchorConfig(3, 5), SIZE)


def predictions(seed=0, batch=2, classes=4):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2, 2, (batch, len(ANCHORS), classes)).astype(np.float32)
    return logits, rng.normal(0, 0.3, (batch, len(ANCHORS), 4)).astype(np.float32)


def slow_postprocess(logits, codes, nms):
    """One image: decode everything, sort every pair, suppress, clip."""
    pairs = logits.reshape(-1)
    order = np.argsort(-pairs, kind="stable")[: nms.max_candidates]
    if nms.max_candidates == 0:
        order = np.arange(len(logits)) * logits.shape[1] + logits.argmax(axis=1)
    rows, labels = np.divmod(order, logits.shape[1])
    boxes = np.array(box_ops.decode(codes, ANCHORS))[rows]
    scores = 1 / (1 + np.exp(-pairs[order]))
    index, scores, count = non_max_suppression(
        boxes[None], scores[None], labels[None].astype(np.int32), nms
    )
    index, count = np.array(index)[0], int(count[0])
    boxes = np.array(box_ops.clip(boxes[index], SIZE))[:count]
    return boxes, np.array(scores)[0, :count], labels[index][:count]


@pytest.mark.parametrize(
    "nms",
    [
        NMSConfig(max_candidates=50),
        NMSConfig(max_candidates=5000, max_detections=7),
        NMSConfig("hard", max_candidates=300),
        NMSConfig("hard", "global", max_candidates=0, score_threshold=0.9),
        NMSConfig(mode="global", max_candidates=0),
    ],
)
@pytest.mark.parametrize("classes", [1, 4])
def test_equal_to_the_slow_way(nms, classes):
    logits, codes = predictions(classes=classes)
    found = postprocess(logits, codes, ANCHORS, nms, SIZE)
    assert found["boxes"].shape == (2, nms.max_detections, 4)
    for i in range(2):
        boxes, scores, labels = slow_postprocess(logits[i], codes[i], nms)
        count = len(scores)
        assert count > 0 and int(found["count"][i]) == count
        np.testing.assert_allclose(found["boxes"][i, :count], boxes, atol=1e-4)
        np.testing.assert_allclose(found["scores"][i, :count], scores, rtol=1e-5)
        np.testing.assert_array_equal(found["labels"][i, :count], labels)
        np.testing.assert_array_equal(found["boxes"][i, count:], 0)
        np.testing.assert_array_equal(found["scores"][i, count:], 0)
        np.testing.assert_array_equal(found["labels"][i, count:], -1)


@pytest.mark.parametrize("candidates", [1, 5, 17, 40])
def test_candidates_are_the_best_pairs_even_when_many_are_equal(candidates):
    # Few distinct logits, so that the cut falls into a tie; nothing is suppressed.
    rng = np.random.default_rng(1)
    logits = rng.integers(-3, 3, (1, len(ANCHORS), 4)).astype(np.float32)
    codes = np.zeros((1, len(ANCHORS), 4), np.float32)
    nms = NMSConfig("hard", iou_threshold=1.0, max_candidates=candidates)
    boxes, scores, labels = slow_postprocess(logits[0], codes[0], nms)
    found = postprocess(logits, codes, ANCHORS, nms, SIZE)
    assert int(found["count"][0]) == candidates == len(scores)
    np.testing.assert_array_equal(found["labels"][0, :candidates], labels)
    np.testing.assert_allclose(found["boxes"][0, :candidates], boxes, atol=1e-4)


def test_one_object_comes_back():
    logits, codes = np.full((1, len(ANCHORS), 3), -12.0), np.zeros((1, len(ANCHORS), 4))
    target = np.float32([10, 20, 50, 44])
    logits[0, 100, 2] = 4.0
    codes[0, 100] = box_ops.encode(target, ANCHORS[100])
    found = postprocess(np.float32(logits), np.float32(codes), ANCHORS, NMSConfig(), SIZE)
    assert int(found["count"][0]) == 1 and int(found["labels"][0, 0]) == 2
    np.testing.assert_allclose(found["boxes"][0, 0], target, atol=1e-3)
    np.testing.assert_allclose(found["scores"][0, 0], 1 / (1 + np.exp(-4.0)), rtol=1e-6)


def test_what_is_assigned_for_training_is_what_is_detected():
    objects = np.float32([[[5, 3, 40, 30], [50, 20, 90, 60], [48, 22, 88, 62], [70, 2, 80, 9]]])
    labels = np.int32([[1, 0, 3, 2]])
    assigned = assign(ANCHORS, objects, labels)
    logits = np.where(np.array(assigned.labels)[..., None] == np.arange(4), 6.0, -6.0)
    codes = box_ops.encode(assigned.boxes, ANCHORS)
    nms = NMSConfig("hard", score_threshold=0.5)
    found = postprocess(np.float32(logits), codes, ANCHORS, nms, SIZE)
    assert int(found["count"][0]) == 4
    order = np.argsort(found["labels"][0, :4])
    np.testing.assert_allclose(
        np.array(found["boxes"])[0, order], objects[0, np.argsort(labels[0])], atol=1e-2
    )


def test_boxes_end_at_the_image():
    logits, codes = predictions()
    boxes = np.array(postprocess(logits, codes + 1, ANCHORS, NMSConfig(), SIZE)["boxes"])
    assert boxes.min() == 0
    assert boxes[..., [0, 2]].max() == 96 and boxes[..., [1, 3]].max() == 64


def test_what_is_not_finite_is_no_detection():
    nms = NMSConfig(max_candidates=100)
    logits, codes = predictions(batch=1)
    codes[0, 40:60, 2], codes[0, 60:80, 0] = 1000.0, np.nan
    muted = logits.copy()
    logits[0, :20], logits[0, 20:40, 1] = np.nan, np.nan
    muted[0, :20], muted[0, 20:40, 1] = -np.inf, -np.inf
    found = postprocess(logits, codes, ANCHORS, nms, SIZE)
    boxes, scores, _ = slow_postprocess(muted[0], codes[0], nms)
    np.testing.assert_allclose(found["boxes"][0, : len(boxes)], boxes, atol=1e-4)
    np.testing.assert_allclose(found["scores"][0, : len(scores)], scores, rtol=1e-5)
    assert np.isfinite(found["boxes"]).all() and int(found["count"][0]) == len(scores) > 0


def test_an_empty_batch():
    found = postprocess(*predictions(batch=0), ANCHORS, NMSConfig(), SIZE)
    assert found["boxes"].shape == (0, 100, 4) and found["labels"].shape == (0, 100)
    assert found["scores"].shape == (0, 100) and found["count"].shape == (0,)


@pytest.mark.parametrize("nms", [NMSConfig(), NMSConfig("hard", "global", max_candidates=0)])
def test_graph_with_an_open_batch_equals_eager_and_serves_any_batch(nms):
    signature = [tf.TensorSpec([None, len(ANCHORS), 4])] * 2
    graph = tf.function(
        lambda logits, codes: postprocess(logits, codes, ANCHORS, nms, SIZE),
        input_signature=signature,
        autograph=False,
    )
    logits, codes = predictions(batch=3)
    for batch in (0, 1, 3):
        served = graph(logits[:batch], codes[:batch])
        eager = postprocess(logits[:batch], codes[:batch], ANCHORS, nms, SIZE)
        for name in ("boxes", "scores"):
            np.testing.assert_allclose(served[name], eager[name], rtol=1e-5, atol=1e-4)
        for name in ("labels", "count"):
            np.testing.assert_array_equal(served[name], eager[name])
    assert served["boxes"].dtype == served["scores"].dtype == tf.float32
    assert served["labels"].dtype == served["count"].dtype == tf.int32


def test_compiles_with_xla():
    logits, codes = predictions()
    nms = NMSConfig(max_candidates=64, max_detections=10)
    compiled = tf.function(
        lambda x, y: postprocess(x, y, ANCHORS, nms, SIZE), jit_compile=True, autograph=False
    )
    plain = postprocess(logits, codes, ANCHORS, nms, SIZE)
    found = compiled(logits, codes)
    np.testing.assert_allclose(found["boxes"], plain["boxes"], atol=1e-3)
    np.testing.assert_array_equal(found["labels"], plain["labels"])


def test_half_precision_predictions_are_decoded_in_float32():
    logits, codes = (part.astype(np.float16) for part in predictions())
    half = postprocess(logits, codes, ANCHORS, NMSConfig(), SIZE)
    full = postprocess(*(np.float32(x) for x in (logits, codes)), ANCHORS, NMSConfig(), SIZE)
    np.testing.assert_array_equal(half["boxes"], full["boxes"])


def slow_level_candidates(logits, quality, levels, nms):
    """One image: every pair whose class is likely enough, sorted level by level."""
    probability = 1 / (1 + np.exp(-logits))
    score = probability if quality is None else probability / (1 + np.exp(-quality[:, None]))
    kept = []
    for level in np.unique(levels):
        pairs = np.argwhere((probability > nms.class_threshold) & (levels[:, None] == level))
        pairs = sorted(pairs.tolist(), key=lambda pair: -score[tuple(pair)])
        kept += [(row, label, score[row, label]) for row, label in pairs[: nms.max_candidates]]
    rows, labels, scores = (np.array(x) for x in zip(*kept, strict=True))
    return rows, labels, scores if quality is None else np.sqrt(scores)


@pytest.mark.parametrize("candidates", [3, 1000])
@pytest.mark.parametrize("has_quality", [True, False])
def test_candidates_of_each_level_equal_the_slow_way(candidates, has_quality):
    nms = NMSConfig(
        "hard",
        iou_threshold=0.6,
        max_candidates=candidates,
        per_level=True,
        class_threshold=0.3,
        clips_first=True,
    )
    logits, codes = predictions(3)
    quality = np.random.default_rng(1).normal(size=logits.shape[:2]).astype(np.float32)
    levels = anchor_levels(AnchorConfig(3, 5), SIZE)
    boxes = np.array(box_ops.decode(codes, ANCHORS))
    found = detections(
        logits,
        lambda rows: gather_rows(boxes, rows),
        nms,
        SIZE,
        levels,
        quality if has_quality else None,
    )
    for i in range(2):
        rows, labels, scores = slow_level_candidates(
            logits[i], quality[i] if has_quality else None, levels, nms
        )
        clipped = np.array(box_ops.clip(boxes[i], SIZE))[rows].astype(np.float32)
        index, kept, count = non_max_suppression(
            clipped[None], scores[None].astype(np.float32), labels[None].astype(np.int32), nms
        )
        count, index = int(count[0]), np.array(index)[0]
        assert count == int(found["count"][i]) > 0
        np.testing.assert_allclose(found["scores"][i, :count], kept[0, :count], rtol=1e-5)
        np.testing.assert_array_equal(found["labels"][i, :count], labels[index][:count])
        np.testing.assert_allclose(found["boxes"][i, :count], clipped[index][:count], atol=1e-4)


def test_candidates_of_each_level_take_empty_batches_and_nan():
    nms = NMSConfig("hard", max_candidates=10, per_level=True)
    levels = anchor_levels(AnchorConfig(3, 5), SIZE)
    logits, codes = predictions()
    found = postprocess(logits[:0], codes[:0], ANCHORS, nms, SIZE, levels)
    assert found["boxes"].shape == (0, 100, 4)
    found = postprocess(np.full_like(logits, np.nan), codes, ANCHORS, nms, SIZE, levels)
    np.testing.assert_array_equal(found["count"], 0)


@pytest.mark.parametrize("batch", [0, 2])
def test_scores_with_objectness_are_products_of_probabilities(batch):
    logits = np.full((batch, 3, 2), -9, np.float32)
    logits[:, 0], logits[:, 1], logits[:, 2] = (1, 2), (3, -2), (np.nan, 5)
    objects = np.tile(np.float32([0.5, np.nan, -1]), (batch, 1))
    boxes = np.tile(np.float32([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]]), (batch, 1, 1))
    nms = NMSConfig("hard", score_threshold=0.3, max_candidates=10, max_detections=4)
    found = object_detections(logits, objects, lambda rows: gather_rows(boxes, rows), nms, SIZE)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    expected = np.array([sigmoid(0.5) * sigmoid(2), sigmoid(0.5) * sigmoid(1), 0, 0])
    np.testing.assert_allclose(found["scores"], np.tile(expected, (batch, 1)), rtol=1e-5)
    np.testing.assert_array_equal(found["labels"], np.tile([1, 0, -1, -1], (batch, 1)))
    best = object_detections(
        logits[..., :1], objects, lambda rows: gather_rows(boxes, rows), nms, SIZE
    )
    np.testing.assert_allclose(best["scores"][:, 0], np.full(batch, sigmoid(0.5)), rtol=1e-5)
    np.testing.assert_array_equal(best["count"], np.full(batch, 1))
