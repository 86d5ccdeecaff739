import numpy as np
import pytest
import tensorflow as tf

from tfdet.data.collage import (
    GREY,
    centred_corner,
    collage,
    fit,
    four_corners,
    insert,
    nine_corners,
)
from tfdet.data.example import Example

SIZE = (40, 56)
CANVAS = (80, 112)


def _example(image, boxes=(), k=0):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    count = len(boxes)
    sides = np.stack([boxes] * 2, axis=1).reshape(-1, 4)  # two to each object
    return Example(
        *(tf.constant(image), tf.constant(boxes), tf.fill([count], k)),
        *(tf.fill([count], False), tf.constant(sides), tf.repeat(tf.range(count), 2)),
        *(tf.constant(k, tf.int64), tf.shape(image)[:2]),
    )


def _corners(count, sizes, seed):
    place = four_corners if count == 4 else nine_corners
    return place(tf.constant(sizes, tf.int32), SIZE, tf.constant([seed, 0])).numpy()


def _random_sizes(count, seed):
    """Sizes that fill SIZE in one direction, as after `fit`."""
    rng = np.random.default_rng(seed)
    return [
        (SIZE[0], int(rng.integers(1, SIZE[1] + 1)))
        if rng.random() < 0.5
        else (int(rng.integers(1, SIZE[0] + 1)), SIZE[1])
        for _ in range(count)
    ]


def test_fitted_rectangles_fill_their_boxes(painted):
    for seed in range(200):
        size = tuple(np.random.default_rng(seed).integers(20, 120, 2))
        box = painted.random_rectangle(seed, size)
        fitted, scale = fit(_example(painted.paint(size, box), [box]), SIZE)
        assert max(np.array(fitted.image.shape[:2]) / SIZE) == 1
        np.testing.assert_allclose(painted.extent(fitted.image, 127), fitted.boxes[0], atol=1.0)
        np.testing.assert_allclose(fitted.boxes[0], np.array(box) * scale.numpy(), atol=1.1)
        np.testing.assert_array_equal(fitted.sides, np.repeat(fitted.boxes, 2, axis=0))


@pytest.mark.parametrize(
    ("sides", "expected"),
    # bars of 10 and 10, 4 and 5 (the shorter one before), none, 19 and 20 (9.5 rounds like 9.4)
    [((20, 56), (10, 0)), ((31, 51), (4, 2)), ((40, 56), (0, 0)), ((1, 56), (19, 0))],
)
def test_letterbox_has_equal_bars(sides, expected):
    np.testing.assert_array_equal(centred_corner(tf.constant(sides), SIZE), expected)


@pytest.mark.parametrize("count", [4, 9])
def test_tiles_do_not_overlap(count):
    for seed in range(100):
        sizes = np.array(_random_sizes(count, seed))
        corners = _corners(count, sizes, seed)
        for i in range(count):
            for j in range(i):
                low = np.maximum(corners[i], corners[j])
                high = np.minimum(corners[i] + sizes[i], corners[j] + sizes[j])
                assert np.any(high <= low), (seed, i, j)


def test_four_tiles_meet_at_a_point_in_the_middle():
    points = []
    for seed in range(200):
        sizes = np.array(_random_sizes(4, seed))
        corners = _corners(4, sizes, seed)
        ends = corners + sizes
        point = corners[3]
        assert [tuple(ends[0]), (ends[1][0], corners[1][1]), (corners[2][0], ends[2][1])] == [
            tuple(point)
        ] * 3
        points.append(point / SIZE)
    assert np.min(points) >= 0.5 - 0.03 and np.max(points) <= 1.5
    np.testing.assert_allclose(np.mean(points, axis=0), 1.0, atol=0.06)


def test_four_full_tiles_leave_no_hole():
    tiles = [_example(np.full((*SIZE, 3), 10 * k + 200, np.uint8)) for k in range(4)]
    for seed in range(50):
        corners = four_corners(tf.constant([SIZE] * 4), SIZE, tf.constant([seed, 0]))
        canvas = collage(tiles, corners, CANVAS).image.numpy()[..., 0]
        y, x = corners[3].numpy()
        covered = canvas[max(y - 40, 0) : y + 40, max(x - 56, 0) : x + 56]
        assert np.all(covered >= 200)
        assert np.count_nonzero(canvas == GREY) == canvas.size - covered.size
        assert canvas[y - 1, x - 1] == 200 and canvas[y - 1, x] == 210
        assert canvas[y, x - 1] == 220 and canvas[y, x] == 230


def test_nine_full_tiles_fill_the_canvas():
    tiles = [_example(np.full((*SIZE, 3), 10 * k + 150, np.uint8)) for k in range(9)]
    shifts = set()
    for seed in range(50):
        corners = nine_corners(tf.constant([SIZE] * 9), SIZE, tf.constant([seed, 0]))
        image = collage(tiles, corners, CANVAS).image.numpy()[..., 0]
        assert np.all(image >= 150)
        y, x = corners[0].numpy()
        assert 0 < y <= 40 and 0 < x <= 56
        ring = [(-1, 0), (-1, 56), (0, 56), (40, 56), (40, 0), (40, -1), (0, -1), (-1, -1)]
        for k, (dy, dx) in enumerate(ring, start=1):
            if y + dy < 80 and x + dx < 112:
                assert image[y + dy, x + dx] == 150 + 10 * k
        shifts.add((y, x))
    assert len(shifts) > 40


_ANY_EXAMPLE = Example(
    *(tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([None, 4])),
    *(tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.bool)),
    *(tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int32)),
    *(tf.TensorSpec([], tf.int64), tf.TensorSpec([2], tf.int32)),
)


@pytest.mark.parametrize("count", [4, 9])
def test_painted_rectangles_move_with_their_tile(painted, count):
    signature = [count * [_ANY_EXAMPLE], tf.TensorSpec([count, 2], tf.int32)]
    run = tf.function(
        lambda tiles, at: collage(tiles, at, CANVAS), input_signature=signature, autograph=False
    )
    for seed in range(200):
        sizes = _random_sizes(count, seed)
        shown = seed % count
        sizes[shown] = SIZE
        box = painted.random_rectangle(seed, SIZE)
        tiles = [_example(np.zeros((*size, 3), np.uint8), k=k) for k, size in enumerate(sizes)]
        tiles[shown] = _example(painted.paint(SIZE, box), [box], shown)
        joined = run(tiles, tf.constant(_corners(count, sizes, seed)))
        visible = np.clip(joined.boxes[0], 0, np.tile(CANVAS[::-1], 2))
        extent = painted.extent(joined.image)
        if extent is None:
            assert np.any(visible[2:] <= visible[:2])
        else:
            np.testing.assert_array_equal(extent, visible)
        np.testing.assert_array_equal(joined.labels, [shown])


def test_objects_follow_each_other_and_own_their_sides():
    image = np.zeros((10, 10, 3), np.uint8)
    counts = (2, 0, 1, 3)
    tiles = [_example(image, [[k, 1, 5, 6]] * n, k) for k, n in enumerate(counts)]
    joined = collage(tiles, tf.zeros([4, 2], tf.int32), CANVAS)
    np.testing.assert_array_equal(joined.labels, [0, 0, 2, 3, 3, 3])
    np.testing.assert_array_equal(joined.owners, np.repeat(np.arange(6), 2))
    np.testing.assert_array_equal(joined.sides, np.repeat(joined.boxes, 2, axis=0))
    assert joined.index == 0 and tuple(joined.size) == (10, 10)


@pytest.mark.parametrize("corner", [(-3, 2), (2, -3), (4, 5), (-9, -9), (30, 1), (1, 30), (0, 0)])
@pytest.mark.parametrize("size", [(3, 4), (1, 1), (20, 20)])
def test_insert_equals_the_slow_way(corner, size):
    canvas, image = np.zeros((8, 9, 3), np.uint8), np.full((*size, 3), 7, np.uint8)
    expected = canvas.copy()
    for y in range(size[0]):
        for x in range(size[1]):
            if 0 <= y + corner[0] < 8 and 0 <= x + corner[1] < 9:
                expected[y + corner[0], x + corner[1]] = 7
    np.testing.assert_array_equal(insert(canvas, image, tf.constant(corner)), expected)
