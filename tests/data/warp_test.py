import numpy as np
import pytest
import tensorflow as tf

from tfdet.data.example import Example
from tfdet.data.visible import project
from tfdet.data.warp import random_matrix, warp

FRAME, SIZE = (60, 80), (64, 72)
MIDDLE = tf.constant([40.0, 30.0])
ZEROS = {"translate": 0.0, "scale": 0.0, "degrees": 0.0, "shear": 0.0, "perspective": 0.0}
ALL = {"translate": 0.3, "scale": 0.6, "degrees": 90.0, "shear": 20.0, "perspective": 0.001}
TURNING = ("degrees", "shear", "perspective", "all")


def _example(image, boxes):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    count = len(boxes)
    corners = boxes[:, [0, 1, 2, 1, 2, 1, 2, 3, 2, 3, 0, 3, 0, 3, 0, 1]].reshape(-1, 4)
    return Example(
        *(tf.constant(image), tf.constant(boxes), tf.range(count), tf.fill([count], False)),
        *(tf.constant(corners), tf.repeat(tf.range(count), 4)),
        *(tf.constant(0, tf.int64), tf.constant(FRAME)),
    )


def _matrix(seed=0, **settings):
    return random_matrix(MIDDLE, SIZE, **(ZEROS | settings), seed=tf.constant([seed, 7]))


def _run(settings, has_outlines=False):
    def run(image, box, seed):
        matrix, factor = random_matrix(MIDDLE, SIZE, **(ZEROS | settings), seed=seed)
        corners = tf.reshape(
            tf.gather(box, [0, 1, 2, 1, 2, 1, 2, 3, 2, 3, 0, 3, 0, 3, 0, 1]), [4, 4]
        )
        rows = (box[tf.newaxis], tf.constant([3]), tf.constant([True]), corners)
        fixed = (tf.zeros([4], tf.int32), tf.constant(0, tf.int64), tf.constant(FRAME))
        return warp(Example(image, *rows, *fixed), matrix, factor, SIZE, has_outlines), factor

    return tf.function(run, autograph=False)


@pytest.mark.parametrize(
    "name", ["translate", "scale", "degrees", "shear", "perspective", "recipe", "all"]
)
def test_moved_rectangles_fill_their_boxes(painted, name):
    recipe = {"translate": 0.2, "scale": 0.9}
    settings = {"recipe": recipe, "all": ALL}.get(name) or {name: ALL[name]}
    run, num_seen = _run(settings), 0
    for seed in range(200):
        box = painted.random_rectangle(seed, FRAME)
        # On grey like that of the canvas, so that pixels show which share of them is covered.
        image = tf.constant(painted.paint(FRAME, box, background=114))
        moved, factor = run(image, tf.constant(box, tf.float32), tf.constant([seed, 2]))
        # Half covered; less for turned rectangles, whose tips are thinner than a pixel.
        extent = painted.extent(moved.image, threshold=150 if name in TURNING else 185)
        if len(moved.boxes) and extent is not None:
            num_seen += 1
            np.testing.assert_array_equal([*moved.labels, *moved.is_crowd], [3, True])
            atol = 1.7 if name in TURNING else 1.0
            np.testing.assert_allclose(extent, moved.boxes[0], atol=atol)
        elif extent is not None:
            sides = extent[2:] - extent[:2]
            area = np.prod(np.array(box[2:]) - box[:2]) * factor.numpy() ** 2
            assert sides.min() <= 3 or sides.prod() < 0.2 * area or max(sides / sides[::-1]) > 15
    assert num_seen > 120


def test_nothing_random_maps_the_middle_to_the_middle():
    matrix, factor = _matrix()
    assert 1 <= factor <= 1.1
    np.testing.assert_allclose(project(MIDDLE[tf.newaxis], matrix), [[36, 32]], atol=1e-4)
    np.testing.assert_allclose(matrix[:2, :2], factor * np.eye(2), atol=1e-6)


def test_factors_and_shifts_have_the_published_ranges():
    run = tf.function(
        lambda seed: random_matrix(MIDDLE, SIZE, 0.2, 0.9, 0.0, 0.0, 0.0, seed), autograph=False
    )
    drawn = [run(tf.constant([k, 0])) for k in range(400)]
    factors = np.array([factor for _, factor in drawn])
    assert 0.1 <= factors.min() < 0.13 and 1.97 < factors.max() <= 2.0
    np.testing.assert_allclose(factors.mean(), 1.05, atol=0.06)
    shares = np.array([project(MIDDLE[None], matrix)[0] / SIZE[::-1] for matrix, _ in drawn])
    assert 0.3 <= shares.min() < 0.31 and 0.69 < shares.max() <= 0.7
    assert abs(np.corrcoef(shares.T)[0, 1]) < 0.15


def test_turns_and_slants_keep_their_limits():
    for seed in range(50):
        (matrix, factor), (slanted, _) = _matrix(seed, degrees=30.0), _matrix(seed, shear=10.0)
        linear = matrix[:2, :2] / factor
        np.testing.assert_allclose(linear @ tf.transpose(linear), np.eye(2), atol=1e-5)
        assert linear[0, 0] >= np.cos(np.pi / 6) - 1e-6
        assert abs(slanted[0, 1] / slanted[0, 0]) <= np.tan(np.pi / 18) + 1e-6


def test_around_the_picture_all_is_grey():
    image = np.full((*FRAME, 3), 250, np.uint8)
    moved = warp(_example(image, []), tf.linalg.diag([0.25, 0.25, 1.0]), 0.25, SIZE, False)
    assert moved.image.shape == (*SIZE, 3) and moved.image.dtype == tf.float32
    np.testing.assert_allclose(moved.image[:15, :20], np.full((15, 20, 3), 250))
    np.testing.assert_array_equal(moved.image[16:], np.full((48, 72, 3), 114))
    assert moved.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ((0, 0, 2.5, 30), True),
        ((0, 0, 2.0, 30), False),  # not wider than two pixels
        ((0, 0, 30, 2.0), False),
        ((0, 0, 60, 2.9), False),  # twenty times as wide as high
        ((0, 0, 50, 2.9), True),
        ((-11, 0, 1, 12), False),
    ],
)
def test_thin_boxes_are_dropped(box, kept):
    example = _example(np.zeros((*FRAME, 3), np.uint8), [box])
    assert len(warp(example, tf.eye(3), 1.0, SIZE, True).boxes) == kept


@pytest.mark.parametrize(
    ("left", "has_outlines", "kept"),
    [(-53, False, True), (-55, False, False), (-55, True, True), (-59.5, True, False)],
)
def test_what_is_cut_off_too_much_is_dropped(left, has_outlines, kept):
    # Of sixty columns 7, 5, 5 and half a one stay: 12, 8, 8 and 1 percent.
    example = _example(np.zeros((*FRAME, 3), np.uint8), [(0, 0, 60, 60)])
    matrix = tf.constant([[1.0, 0, left], [0, 1, 0], [0, 0, 1]])
    assert len(warp(example, matrix, 1.0, SIZE, has_outlines).boxes) == kept


def test_share_is_of_what_the_mosaic_showed_at_the_new_scale():
    # Ten of the sixty columns lie in the frame; all of these are seen, four times as large.
    example = _example(np.zeros((*FRAME, 3), np.uint8), [(70, 0, 130, 6)])
    matrix = tf.constant([[2.0, 0, -100], [0, 2, 0], [0, 0, 1]])
    moved = warp(example, matrix, 2.0, SIZE, False)
    np.testing.assert_allclose(moved.boxes, [[40, 0, 60, 12]], atol=1e-4)


def test_only_kept_objects_keep_their_rows():
    boxes = [(1, 1, 20, 20), (5, 5, 6, 6), (30, 30, 50, 50)]
    moved = warp(_example(np.zeros((*FRAME, 3), np.uint8), boxes), tf.eye(3), 1.0, SIZE, False)
    np.testing.assert_array_equal(moved.labels, [0, 2])
    np.testing.assert_allclose(moved.boxes, [boxes[0], boxes[2]])
    assert moved.sides.shape == (0, 4) and moved.owners.shape == (0,)
