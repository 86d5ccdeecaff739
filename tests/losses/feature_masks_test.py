"""Masks of feature imitation, against loops over objects and cells."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.losses import feature_masks
from tfdet.ops.anchors import AnchorConfig, anchors

SIZES = {2: (12, 16), 3: (6, 8), 4: (3, 4)}
CELLS = sum(height * width for height, width in SIZES.values())
CONFIG = AnchorConfig(2, 4, 1, (2.0, 1.0, 0.5), 4.0, "corner")
ANCHORS = anchors(CONFIG, (48, 64))
TARGETS = {
    "boxes": np.array(
        [
            [[3, 5, 19, 22], [30, 2, 62, 40], [0, 0, 0, 0], [0, 0, 64, 48]],
            [[8, 8, 12, 12], [9, 9, 9, 20], [0, 0, 0, 0], [0, 0, 0, 0]],
        ],
        np.float32,
    ),
    "labels": np.array([[0, 2, -1, 1], [1, 1, -1, -1]], np.int32),
    "is_crowd": np.array([[False, False, False, True], [False] * 4]),
}


def objects(image):
    """Boxes that count: no padding, no crowd, and not the one of width 0."""
    return TARGETS["boxes"][image][[0, 1] if image == 0 else [0]]


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return shared / (sum(areas) - shared)


def test_anchor_mask_takes_cells_with_half_of_the_best_overlap():
    wanted = np.zeros((2, CELLS))
    for image in (0, 1):
        for box in objects(image):
            overlaps = np.array([iou(box, anchor) for anchor in ANCHORS])
            for index in np.flatnonzero(overlaps > 0.5 * overlaps.max()):
                wanted[image, index // 3] = 1
    found = np.array(feature_masks.anchor_mask(TARGETS, ANCHORS, 3))
    np.testing.assert_array_equal(found, wanted)
    # The small object is on the finest map alone, the large one of the other image is not.
    assert found[1].any() and not found[1, 12 * 16 :].any()
    assert found[0, 12 * 16 :].any()


def test_gaussian_mask_is_the_largest_bell_within_boxes():
    wanted, index = np.zeros((2, CELLS)), 0
    for level, (height, width) in SIZES.items():
        for row in range(height):
            for column in range(width):
                x, y = (column + 0.5) * 2**level, (row + 0.5) * 2**level
                for image in (0, 1):
                    for x1, y1, x2, y2 in objects(image):
                        if x1 <= x <= x2 and y1 <= y <= y2:
                            across = (x - (x1 + x2) / 2) / ((x2 - x1) / 2)
                            down = (y - (y1 + y2) / 2) / ((y2 - y1) / 2)
                            weight = np.exp(-(across**2 + down**2) / 2)
                            wanted[image, index] = max(wanted[image, index], weight)
                index += 1
    found = np.array(feature_masks.gaussian_mask(TARGETS, feature_masks.cell_centers(SIZES)))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=0)
    assert np.exp(-1) <= found[found > 0].min() < found.max() <= 1


def masks(targets):
    yield feature_masks.anchor_mask(targets, ANCHORS, 3)
    yield feature_masks.gaussian_mask(targets, feature_masks.cell_centers(SIZES))


def test_images_without_objects_have_no_weight():
    empty = {**TARGETS, "labels": np.full((2, 4), -1, np.int32)}
    away = {**TARGETS, "boxes": TARGETS["boxes"] + 1000}
    none = {name: value[:, :0] for name, value in TARGETS.items()}
    for targets in (empty, away, none):
        for mask in masks(targets):
            assert mask.shape == (2, CELLS) and not np.any(mask)


def test_a_batch_of_nothing_has_masks_of_nothing():
    for mask in masks({name: value[:0] for name, value in TARGETS.items()}):
        assert mask.shape == (0, CELLS)


def test_graphs_of_any_batch_have_the_same_masks():
    kinds = {name: tf.as_dtype(value.dtype) for name, value in TARGETS.items()}
    shapes = {name: (None, *value.shape[1:]) for name, value in TARGETS.items()}
    spec = {name: tf.TensorSpec(shapes[name], kinds[name]) for name in TARGETS}
    graph = tf.function(lambda targets: tuple(masks(targets)), input_signature=[spec])
    for found, wanted in zip(graph(TARGETS), masks(TARGETS), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_masks_of_a_batch_are_those_of_its_images():
    parts = [list(masks({k: v[i : i + 1] for k, v in TARGETS.items()})) for i in (0, 1)]
    for whole, *rows in zip(masks(TARGETS), *parts, strict=True):
        np.testing.assert_array_equal(whole, np.concatenate(rows))


def maps(seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(2, *size, 5)).astype(np.float32) for size in SIZES.values()]


def test_loss_is_the_weighted_mean_over_cells():
    student, teacher = maps(0), maps(1)
    mask = np.random.default_rng(2).random((2, CELLS)).astype(np.float32)
    total, index = 0.0, 0
    for ours, theirs in zip(student, teacher, strict=True):
        for row in range(ours.shape[1]):
            for column in range(ours.shape[2]):
                errors = (ours[:, row, column] - theirs[:, row, column]) ** 2
                total += (mask[:, index] * errors.mean(-1)).sum()
                index += 1
    found = feature_masks.masked_feature_loss(student, teacher, mask)
    assert float(found) == pytest.approx(total / mask.sum(), rel=1e-5)


def test_whole_mask_gives_the_mean_square_of_everything():
    student, teacher = maps(0), maps(1)
    every = [np.concatenate([part.reshape(-1) for part in x]) for x in (student, teacher)]
    mask = feature_masks.whole_mask(2, CELLS)
    found = feature_masks.masked_feature_loss(student, teacher, mask)
    assert float(found) == pytest.approx(np.mean((every[0] - every[1]) ** 2), rel=1e-5)


def test_without_weight_the_loss_and_its_gradient_are_zero():
    student = [tf.Variable(one) for one in maps(0)]
    with tf.GradientTape() as tape:
        loss = feature_masks.masked_feature_loss(student, maps(1), tf.zeros((2, CELLS)))
    assert float(loss) == 0
    assert not any(np.any(one) for one in tape.gradient(loss, student))
