import math

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.path import Path
from PIL import Image, ImageDraw

from tfdet.data.affine import project_pixels
from tfdet.data.visible import clip_sides, points_inside, project, visible_boxes
from tfdet.data.warp import random_matrix

FRAME, WINDOW = (90, 120), (80, 100)  # height, width


def _sides(*rings):
    sides = [np.concatenate([ring, np.roll(ring, -1, axis=0)], axis=1) for ring in rings]
    owners = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    return np.concatenate(sides).astype(np.float32), owners.astype(np.int32)


def _boxes(rings, matrix, frame=FRAME, window=WINDOW):
    sides, owners = _sides(*rings) if rings else (np.zeros((0, 4), "f4"), np.zeros(0, "i4"))
    return visible_boxes(
        sides,
        owners,
        len(rings),
        tf.constant(frame[::-1], tf.float32),
        tf.constant(matrix, tf.float32),
        tf.constant(window[::-1], tf.float32),
    ).numpy()


def _rectangle(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def _star(rng):
    """A star with a random centre and size, which may reach out of the frame."""
    angles = np.arange(10) * math.pi / 5 + rng.uniform(0, 6)
    radii = np.where(np.arange(10) % 2, 0.45, 1) * rng.uniform(10, 70)
    centre = rng.uniform([0, 0], FRAME[::-1])
    return centre + np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def test_boxes_of_painted_stars_are_those_of_what_is_seen(painted):
    """Against the pixels: turned, slanted, in perspective, cut by the frame and by the window."""
    run = tf.function(
        lambda seed: random_matrix(
            tf.constant([60.0, 45.0]), WINDOW, 0.3, 0.5, 180.0, 20.0, 0.002, seed
        )[0],
        autograph=False,
    )
    warp = tf.function(
        lambda image, matrix: project_pixels(
            tf.cast(image, tf.float32), matrix, (4 * WINDOW[0], 4 * WINDOW[1]), 0.0
        ),
        autograph=False,
    )
    num_seen = 0
    for seed in range(200):
        star, matrix = _star(np.random.default_rng(seed)), run(tf.constant([seed, 1]))
        image = Image.new("L", (4 * FRAME[1], 4 * FRAME[0]))
        ImageDraw.Draw(image).polygon([tuple(p) for p in (4 * star - 0.5).tolist()], fill=255)
        enlarged = np.repeat(np.asarray(image)[..., np.newaxis], 3, axis=-1)
        # Painted and warped at four times the size: what blurs there is a quarter here.
        zoom = np.diag([4.0, 4.0, 1.0]).astype(np.float32)
        enlarging = zoom @ matrix.numpy() @ np.linalg.inv(zoom)
        warped = warp(enlarged, tf.cast(enlarging, tf.float32))
        extent, (box,) = painted.extent(warped, 127), _boxes([star], matrix)
        if extent is None:
            assert (box[2:] - box[:2]).min() < 0.2
        elif np.min(extent[2:] - extent[:2]) > 8:
            num_seen += 1
            # Pillow paints half a pixel more than the outline, at sharp tips several.
            np.testing.assert_allclose(extent / 4, box, atol=1.0)
    assert num_seen > 100


def test_object_around_the_whole_view_fills_it():
    around = _rectangle(-500, -500, 500, 500)
    shifted = [[1, 0, 30], [0, 1, -20], [0, 0, 1]]
    np.testing.assert_allclose(_boxes([around], shifted), [[30, 0, 100, 70]])
    enlarged = [[9, 0, -300], [0, 9, -300], [0, 0, 1]]
    np.testing.assert_allclose(_boxes([around], enlarged), [[0, 0, 100, 80]], atol=1e-4)


def test_object_around_a_corner_of_the_view_reaches_the_others():
    # Only the top-left corner of the window is outside: the outline alone would give 0, 0, 20, 20.
    most = np.array([[20, 0], [300, 0], [300, 300], [0, 300], [0, 20]], np.float32)
    np.testing.assert_allclose(_boxes([most], np.eye(3)), [[0, 0, 100, 80]])


def test_what_lies_outside_the_frame_is_not_seen_in_the_window():
    beyond = _rectangle(100, 20, 200, 60)
    to_the_left = [[1, 0, -60], [0, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(_boxes([beyond], to_the_left), [[40, 20, 60, 60]])


def test_two_rings_of_an_object_share_a_box_and_unseen_ones_have_none():
    sides, owners = _sides(
        _rectangle(5, 5, 9, 9), _rectangle(30, 1, 40, 3), _rectangle(500, 5, 600, 9)
    )
    owners = np.array([0, 0, 2], np.int32)[owners]
    boxes = visible_boxes(
        sides, owners, 4, tf.constant([120.0, 90]), tf.eye(3), tf.constant([100.0, 80])
    )
    np.testing.assert_allclose(boxes, [[5, 1, 40, 9], [0] * 4, [0] * 4, [0] * 4])


def test_no_objects_give_no_boxes():
    assert _boxes([], np.eye(3)).shape == (0, 4)


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        ([-5, 5, 15, 5], [0, 5, 10, 5]),
        ([-5, -5, 5, 5], [0, 0, 5, 5]),
        ([2, 3, 4, 5], [2, 3, 4, 5]),
        ([4, 4, 4, 4], [4, 4, 4, 4]),
        ([10, -9, 10, 99], [10, 0, 10, 8]),
        ([-5, 3, -1, 3], None),
        ([-2, 3, 3, -5], None),
        ([11, 4, 11, 4], None),
    ],
)
def test_sides_are_cut_to_the_rectangle(side, expected):
    parts, is_inside = clip_sides(tf.constant([side], tf.float32), tf.constant([10.0, 8.0]))
    assert bool(is_inside[0]) == (expected is not None)
    if expected is not None:
        np.testing.assert_allclose(parts[0], expected)


def test_points_inside_agree_with_matplotlib():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        stars = [_star(rng), _star(rng)]
        points = rng.uniform(-20, 140, (300, 2)).astype(np.float32)
        inside = points_inside(points, *_sides(*stars), 3).numpy()
        expected = [Path(star).contains_points(points) for star in stars]
        np.testing.assert_array_equal(inside.T, [*expected, np.zeros(300, bool)])


def test_projection_divides_by_the_depth():
    matrix = tf.constant([[2.0, 0, 1], [0, 3, 0], [0.5, 0, 1]])
    np.testing.assert_allclose(project(tf.constant([[2.0, 4.0]]), matrix), [[5 / 2, 12 / 2]])
