"""Targets and losses of FCOS; golden values are the published implementation's."""

import collections
import math

import numpy as np
import pytest
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.heads.packed import gap_count
from tfdet.losses.focal import focal_loss
from tfdet.losses.points import (
    PointLossConfig,
    assign_points,
    centerness,
    distance_loss,
    point_loss_terms,
)
from tfdet.ops import points as point_ops

SIZE = (256, 320)
PACKED_LEVELS = (3, 4, 5, 6, 7, 5, 6, 7)
CELLS = point_ops.cells(PACKED_LEVELS, SIZE, gap_count(4, SIZE, 3, 7))
IMPROVED = PointLossConfig()
FIRST = PointLossConfig(center_radius=0.0, box_loss="iou")

# The published boxes count their last pixels in; ours end one pixel later.
BOXES = np.array(
    [[20, 30, 60, 80], [10, 10, 300, 240], [100, 60, 260, 200], [200, 20, 230, 42]], np.float32
)[None]
LABELS = np.array([[3, 7, 80, 1]]) - 1


def positives_per_map(labels):
    ends = np.cumsum([32 * 40, 16 * 20, 8 * 10, 4 * 5, 2 * 3, 8 * 10, 4 * 5])
    maps = np.split(np.array(labels)[0] + 1, ends)
    return [dict(collections.Counter(part[part > 0].tolist())) for part in maps]


@pytest.mark.parametrize(
    ("radius", "per_map", "center_sum", "unit", "target_sum"),
    [
        (1.5, [{1: 6, 3: 9}, {80: 9}, {7: 9}, {}, {}, {7: 9}, {}, {}], 26.122019, True, 595.5),
        (
            0.0,
            [
                {1: 8, 3: 24},
                {80: 48},
                {7: 41, 80: 8},
                {7: 8},
                {},
                {7: 41, 80: 8},
                {7: 8},
                {},
            ],
            68.737175,
            False,
            72348,
        ),
    ],
)
def test_targets_are_the_published_ones(radius, per_map, center_sum, unit, target_sum):
    labels, distances, _ = assign_points(CELLS, BOXES, LABELS, None, radius)
    assert positives_per_map(labels) == per_map
    found = np.array(distances)[np.array(labels) >= 0]
    assert np.sum(centerness(found)) == pytest.approx(center_sum, abs=1e-5)
    strides = CELLS.strides[np.array(labels)[0] >= 0]
    assert np.sum(found / strides[:, None] if unit else found) == pytest.approx(target_sum)


@pytest.mark.parametrize(
    ("config", "is_normalized", "predicted", "expected"),
    [
        (IMPROVED, True, 2.0, (1.131138, 0.695353, math.log(2))),
        (FIRST, False, 32.0, (1.128978, 2.161314, math.log(2))),
    ],
)
def test_losses_are_the_published_ones(config, is_normalized, predicted, expected):
    count = len(CELLS.points)
    raw = {
        "class_logits": np.full((1, count, 80), -math.log(99), np.float32),
        "box_distances": np.full((1, count, 4), predicted, np.float32),
        "centerness_logits": np.zeros((1, count), np.float32),
    }
    targets = {"boxes": BOXES, "labels": LABELS}
    terms = point_loss_terms(targets, raw, CELLS, config, is_normalized)
    assert [float(x) for x in terms.values()] == pytest.approx(expected, abs=2e-6)


def test_focal_loss_is_the_published_one():
    logits = np.array([[1, -1, 1, 1], [0.5, 1, 2, -3]], np.float32)
    assert float(focal_loss(logits, np.array([-1, 1]), gamma=2.0)) == pytest.approx(
        3.122561, abs=1e-6
    )


@pytest.mark.parametrize(
    ("predicted", "target", "expected"),
    [
        ([1, 2, 3, 4], [2, 2, 2, 2], (0.802346, 0.551724, 0.618391)),
        ([2, 2, 2, 2], [1, 3, 2, 4], (0.693147, 0.5, 0.607143)),
    ],
)
def test_box_losses_are_the_published_ones(predicted, target, expected):
    predicted, target = np.array(predicted, np.float32), np.array(target, np.float32)
    found = [float(distance_loss(predicted, target, k)) for k in ("iou", "linear_iou", "giou")]
    assert found == pytest.approx(expected, abs=1e-6)


def slow_targets(cells, boxes, labels, radius):
    """One image, one cell and one box at a time."""
    result = np.full(len(cells.points), -1)
    for k, ((x, y), level, stride) in enumerate(zip(*cells[:3], strict=True)):
        best = math.inf
        for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
            right, bottom = right - 1, bottom - 1
            sides = x - left, y - top, right - x, bottom - y
            low = -1 if level == 3 else 4 * stride
            high = 1e8 if level == cells.levels.max() else 8 * stride
            inside = min(sides) > 0
            if radius:
                inside &= abs(x - (left + right) / 2) < radius * stride
                inside &= abs(y - (top + bottom) / 2) < radius * stride
            area = (right - left + 1) * (bottom - top + 1)
            if label >= 0 and inside and low <= max(sides) <= high and area < best:
                best, result[k] = area, label
    return result


@pytest.mark.parametrize("radius", [0.0, 1.5])
def test_equal_to_the_slow_way_with_padding(radius):
    rng = np.random.default_rng(3)
    cells = point_ops.cells((3, 4, 5), (64, 96), 2)
    corner = rng.integers(0, 60, (3, 6, 2))
    boxes = np.concatenate([corner, corner + rng.integers(2, 60, (3, 6, 2))], -1).astype(np.float32)
    labels = rng.integers(-1, 4, (3, 6)).astype(np.int32)
    found = np.array(assign_points(cells, boxes, labels, None, radius).labels)
    for i in range(3):
        np.testing.assert_array_equal(found[i], slow_targets(cells, boxes[i], labels[i], radius))
    assert (found >= 0).any()


def test_crowds_are_left_out_and_equal_boxes_go_by_order():
    boxes = np.repeat(BOXES[:, :1], 3, axis=1)
    labels = np.array([[4, 5, 6]])
    kept = np.array(assign_points(CELLS, boxes, labels).labels)
    assert set(kept[kept >= 0]) == {4}
    crowd = np.array([[True, False, False]])
    kept = np.array(assign_points(CELLS, boxes, labels, crowd).labels)
    assert set(kept[kept >= 0]) == {5}


def test_without_objects_only_the_class_loss_remains_and_gradients_are_finite():
    count = len(CELLS.points)
    raw = {
        "class_logits": tf.random.normal((2, count, 3), seed=1),
        "box_distances": tf.zeros((2, count, 4)),
        "centerness_logits": tf.zeros((2, count)),
    }
    boxes = np.full((2, 3, 4), np.nan, np.float32)
    targets = {"boxes": boxes, "labels": np.full((2, 3), -1)}
    with tf.GradientTape() as tape:
        tape.watch(raw)
        terms = point_loss_terms(targets, raw, CELLS, IMPROVED, True)
        total = tf.add_n(list(terms.values()))
    assert float(terms["class_loss"]) > 0
    assert float(terms["box_loss"]) == float(terms["centerness_loss"]) == 0
    for gradient in tape.gradient(total, list(raw.values())):
        assert np.isfinite(gradient).all()


def test_half_precision_predictions_give_a_float32_loss():
    count = len(CELLS.points)
    raw = {
        "class_logits": tf.zeros((1, count, 80), tf.float16),
        "box_distances": tf.ones((1, count, 4), tf.float16),
        "centerness_logits": tf.zeros((1, count), tf.float16),
    }
    terms = point_loss_terms({"boxes": BOXES, "labels": LABELS}, raw, CELLS, IMPROVED, True)
    assert all(x.dtype == tf.float32 and np.isfinite(x) for x in terms.values())


def test_the_reach_fits_small_images_and_is_the_published_one_in_large_ones():
    sizes = {(800, 1344): 8.0, (1200, 800): 8.0, (600, 800): 6.0, (160, 160): 4.0, (64, 64): 4.0}
    assert {size: PointLossConfig().for_images(size).reach for size in sizes} == sizes
    assert PointLossConfig(reach=5.0).for_images((160, 160)).reach == 5.0
    with pytest.raises(UserError, match="reach >= 0"):
        PointLossConfig(reach=-1.0)


def test_a_smaller_reach_moves_objects_to_coarser_levels_and_names_them():
    for reach, level in ((8.0, 3), (4.0, 4), (2.0, 5)):
        boxes = np.array([[[40, 40, 112, 112]]], np.float32)  # 36 pixels from its middle
        found = assign_points(CELLS, boxes, np.zeros((1, 1), "int32"), None, 1.5, reach)
        learns = np.array(found.objects)[0] == 0
        np.testing.assert_array_equal(learns, np.array(found.labels)[0] == 0)
        assert CELLS.levels[learns].min() == level
