import numpy as np
import pytest
import tensorflow as tf

from tfdet.data import affine
from tfdet.data.autoaugment import (
    POLICIES,
    POLICY_V0,
    RANDAUGMENT_OPERATIONS,
    apply_policy,
    operate,
    translate_y_in_boxes,
)

SIZE = (60, 80)
GEOMETRIC = ("translate_x", "translate_y", "shear_x", "shear_y", "rotate")


@pytest.mark.parametrize("name", GEOMETRIC)
def test_moved_rectangles_stay_in_their_boxes(name, painted):
    run = tf.function(
        lambda image, boxes, strength, sign: operate(
            name, strength, image, boxes, sign, tf.constant([0, 0])
        ),
        autograph=False,
    )
    num_seen = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        box = painted.random_rectangle(seed, SIZE)
        strength = rng.uniform(0, 0.15 if name.startswith("translate") else 1.5)
        sign = rng.choice([-1.0, 1.0])
        image, moved = run(
            tf.constant(painted.paint(SIZE, box)),
            tf.constant([box], tf.float32),
            tf.constant(strength, tf.float32),
            tf.constant(sign, tf.float32),
        )
        extent = painted.extent(image)
        if extent is None:
            continue
        num_seen += 1
        inside = moved[0].numpy()
        assert np.all(extent[:2] >= inside[:2] - 0.75), (seed, extent, inside)
        assert np.all(extent[2:] <= inside[2:] + 0.75), (seed, extent, inside)
        is_cut = inside.min() <= 0 or np.any(inside[2:] >= SIZE[::-1])
        if name.startswith("translate") or (name.startswith("shear") and not is_cut):
            # The thin ends of a sheared rectangle are too dim to be seen.
            atol = 1.0 if name.startswith("translate") else 4.0
            np.testing.assert_allclose(extent, inside, atol=atol)
    assert num_seen > 120


def test_affine_maps_agree_with_their_matrices():
    point = np.array([3.0, 4.0, 1.0])
    np.testing.assert_allclose(affine.translation(2.0, -1.0).numpy() @ point, [5, 3])
    np.testing.assert_allclose(affine.shear(0.5, 0.0).numpy() @ point, [5, 4])
    middle = np.array([40.0, 30.0, 1.0])
    turn = affine.rotation(tf.constant(90.0), tf.constant([60, 80, 3])).numpy()
    np.testing.assert_allclose(turn @ middle, middle[:2], atol=1e-4)
    np.testing.assert_allclose(turn @ [41, 30, 1], [40, 31], atol=1e-4)


def test_identity_keeps_every_pixel():
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    moved = affine.transform_pixels(tf.constant(image), affine.translation(0.0, 0.0))
    np.testing.assert_array_equal(moved, image)


def test_whole_shifts_move_pixels_and_bring_in_grey():
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    moved = affine.transform_pixels(tf.constant(image), affine.translation(5.0, 0.0))
    np.testing.assert_array_equal(moved[:, 5:], image[:, :-5])
    assert np.all(moved[:, :5] == 128)


def test_boxes_that_leave_the_image_lose_their_area(painted):
    image, boxes = painted.paint(SIZE, (70, 0, 80, 20)), tf.constant([[70.0, 0, 80, 20]])
    _, moved = affine.transform(tf.constant(image), boxes, affine.translation(11.0, 0.0))
    np.testing.assert_array_equal(moved, [[80, 0, 80, 20]])


def test_shifts_inside_of_boxes_leave_the_rest_alone(painted):
    for seed in range(200):
        box = painted.random_rectangle(seed, SIZE)
        x0, y0, x1, y1 = box
        image = np.random.default_rng(seed).integers(0, 100, (*SIZE, 3), np.uint8)
        moved = translate_y_in_boxes(
            tf.constant(image),
            tf.constant([box], tf.float32),
            tf.constant(3.0),
            1.0,
            tf.constant([seed, 0]),
        ).numpy()
        is_outside = np.ones(SIZE, bool)
        is_outside[y0:y1, x0:x1] = False
        np.testing.assert_array_equal(moved[is_outside], image[is_outside])
        np.testing.assert_array_equal(moved[y0 + 3 : y1, x0:x1], image[y0 : y1 - 3, x0:x1])
        assert np.all(moved[y0 : y0 + 3, x0:x1] == 128)


def test_boxes_to_shift_are_chosen_with_their_probability():
    boxes = tf.constant([[2.0 * k, 0, 2 * k + 2, 60] for k in range(40)])
    image = tf.zeros([*SIZE, 3], tf.uint8)
    counts = []
    for k in range(20):
        moved = translate_y_in_boxes(image, boxes, tf.constant(5.0), 0.25, tf.constant([k, 0]))
        counts.append(np.count_nonzero(np.asarray(moved)[0, ::2, 0] == 128))
    assert 7 < np.mean(counts) < 13


def test_degenerate_boxes_are_no_trouble():
    image = tf.zeros([*SIZE, 3], tf.uint8)
    boxes = tf.constant([[5.0, 5, 5, 9], [-3, -3, -1, -1], [10.2, 10.2, 10.4, 10.4]])
    moved = translate_y_in_boxes(image, boxes, tf.constant(2.0), 1.0, tf.constant([0, 0]))
    np.testing.assert_array_equal(moved, image)


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_reach_all_their_branches(policy):
    # Wider than the longest shift, so that the branches differ.
    image = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    boxes = np.array([[10, 10, 50, 50]], np.float32)
    run = tf.function(
        lambda seed: apply_policy(policy, tf.constant(image), boxes, seed), autograph=False
    )
    results = {run(tf.constant([k, 0]))[0].numpy().tobytes() for k in range(60)}
    num_branches = len(POLICY_V0) if policy == "v0" else len(RANDAUGMENT_OPERATIONS)
    assert len(results) > num_branches


def test_every_operation_of_the_policies_exists():
    names = {name for chain in POLICY_V0 for name, _, _ in chain} | set(RANDAUGMENT_OPERATIONS)
    image, boxes = tf.zeros([*SIZE, 3], tf.uint8), tf.zeros([0, 4])
    for name in names - {"translate_y_in_boxes"}:
        changed, moved = operate(name, 0.6, image, boxes, tf.constant(1.0), tf.constant([0, 0]))
        assert changed.shape == image.shape and changed.dtype == tf.uint8, name
        assert moved.shape == (0, 4)
