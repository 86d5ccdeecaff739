"""Budgets and the global loss by hand: equations 3 and 4, and the two other strategies."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.losses.routing_budget import (
    LossBuffer,
    RoutingLossConfig,
    global_loss,
    ranked_budget,
    scale_budget,
    scale_code,
)

CONFIG = RoutingLossConfig()
SIZE = (640, 800)


def targets(*images, rows=5):
    """Images as lists of (width, height) or (width, height, "crowd")."""
    boxes = np.zeros((len(images), rows, 4), np.float32)
    labels = np.full((len(images), rows), -1, np.int32)
    crowd = np.zeros((len(images), rows), bool)
    for i, image in enumerate(images):
        for j, (width, height, *kind) in enumerate(image):
            boxes[i, j] = 3, 5, 3 + width, 5 + height
            labels[i, j], crowd[i, j] = 0, bool(kind)
    return {"boxes": boxes, "labels": labels, "is_crowd": crowd}


def test_the_code_is_of_longer_sides_and_edges_belong_below():
    code = scale_code(
        targets(
            [(10, 64)],
            [(65, 3), (150, 9)],
            [(151, 1), (360, 1), (20, 20)],
            [(361, 100), (30, 30, "crowd")],
            [],
        ),
        CONFIG,
        SIZE,
    )
    expected = [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    np.testing.assert_array_equal(code, expected)


def test_small_images_have_intervals_in_proportion():
    assert CONFIG.edges_for((800, 1333)) == CONFIG.edges_for((600, 1000)) == (64, 150, 360)
    assert CONFIG.edges_for((320, 150)) == (16, 37.5, 90)
    assert RoutingLossConfig(scale_frame="file").edges_for((320, 150)) == (64, 150, 360)
    assert RoutingLossConfig(scale_edges=(8.0, 9.0)).edges_for((320, 150)) == (8, 9)
    code = scale_code(targets([(10, 16), (20, 90), (20, 91)]), CONFIG, (320, 150))
    np.testing.assert_array_equal(code, [[1, 0, 1, 1]])


def test_scale_aware_budgets_are_multiples_of_the_smallest():
    codes = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]], np.float32)
    np.testing.assert_allclose(scale_budget(codes, CONFIG), [0.05, 0.05, 0.1, 0.2])
    printed = RoutingLossConfig(printed_form=True, budget=0.1)
    np.testing.assert_allclose(scale_budget(codes, printed), [0.025, 0.025, 0.05, 0.1])


def test_sizes_may_be_those_of_the_file():
    own = {
        **targets([(60, 20)], [(60, 20)], [(80, 20)]),
        "scale": np.array([1, 0.5, 2], np.float32),
    }
    in_file = RoutingLossConfig(scale_frame="file")
    np.testing.assert_array_equal(np.argmax(scale_code(own, CONFIG, SIZE), axis=1), [0, 0, 1])
    np.testing.assert_array_equal(np.argmax(scale_code(own, in_file, SIZE), axis=1), [0, 1, 0])
    with pytest.raises(UserError, match=r"scale_frame=file needs targets\['scale'\]"):
        scale_code(targets([(60, 20)]), in_file, SIZE)


def test_images_without_objects_have_the_budget_that_is_chosen():
    codes = np.array([[0, 0, 0, 0], [0, 1, 0, 0]], np.float32)
    for least in (0.0, 0.5, 2.0):
        budget = scale_budget(codes, RoutingLossConfig(least_intervals=least))
        np.testing.assert_allclose(budget, [least * 0.05, 0.05])


def test_global_loss_is_in_the_unit_that_is_chosen():
    soft, budget = np.array([0.3, 0.05], np.float32), np.array([0.1, 0.05], np.float32)
    assert float(global_loss(soft, budget, 5.0)) == pytest.approx((5 * 0.2) ** 2 / 2)


def test_global_loss_is_the_mean_squared_distance():
    soft, budget = tf.constant([0.3, 0.05]), tf.Variable([0.1, 0.05])
    with tf.GradientTape() as tape:
        loss = global_loss(soft, budget)
    assert float(loss) == pytest.approx(0.2**2 / 2)
    assert tape.gradient(loss, budget) is None


def test_loss_aware_budgets_go_by_rank():
    buffer = LossBuffer(4)
    new = np.array([1.5, 0.5, 9.0], np.float32)
    np.testing.assert_allclose(ranked_budget(buffer.rank(new), CONFIG), 2.5 * 0.05)
    buffer.push(np.array([1.0, 2.0], np.float32))
    np.testing.assert_allclose(buffer.rank(new), [0.5, 0.0, 1.0])
    np.testing.assert_allclose(ranked_budget(buffer.rank(new), CONFIG), [0.125, 0.05, 0.2])
    # First in, first out: 1 leaves.
    buffer.push(np.array([3.0, 4.0, 5.0], np.float32))
    np.testing.assert_allclose(buffer.rank(np.array([1.5, 4.5], np.float32)), [0.0, 0.75])
    np.testing.assert_array_equal(buffer.variables[0], [2, 3, 4, 5])


def test_more_images_than_the_buffer_holds():
    buffer = LossBuffer(3)
    buffer.push(np.arange(8, dtype=np.float32))
    np.testing.assert_array_equal(buffer.variables[0], [5, 6, 7])
    assert int(buffer.variables[1]) == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"budget": 0.0}, "budget must be in"),
        ({"scale_edges": (64.0, 32.0)}, "positive and rising"),
        ({"similarity_min": 0.99}, "similarity_min <= similarity_max"),
        ({"buffer": 0}, "buffer must be at least 1"),
        ({"local_weight": -1.0}, "local_weight must be at least 0"),
    ],
)
def test_impossible_settings_are_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        RoutingLossConfig(**changes)
