import numpy as np
import pytest
import tensorflow as tf

from tfdet.data.augment import (
    AugmentConfig,
    augment_image,
    flip_horizontally,
    flip_vertically,
    has_area,
    jitter_and_crop,
    random_flip,
    random_flips,
    random_grid_mask,
)
from tfdet.errors import UserError

SIZE = (56, 72)
CANVAS = (64, 64)
NO_COLOUR = (0.0, 0.0, 0.0)


def _rectangles(painted):
    for seed in range(200):
        box = painted.random_rectangle(seed, SIZE)
        yield seed, painted.paint(SIZE, box), np.array([box], np.float32)


@pytest.mark.parametrize("flip", [flip_horizontally, flip_vertically])
def test_flipped_rectangles_fill_their_boxes(painted, flip):
    for _, image, boxes in _rectangles(painted):
        flipped, moved = flip(tf.constant(image), tf.constant(boxes))
        np.testing.assert_array_equal(painted.extent(flipped), moved[0])


@pytest.mark.parametrize("flip", [flip_horizontally, flip_vertically])
def test_flipping_twice_changes_nothing(flip):
    image = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    boxes = np.array([[1, 2, 3, 4], [0, 0, 8, 5]], np.float32)
    once = flip(tf.constant(image), tf.constant(boxes))
    twice = flip(*once)
    np.testing.assert_array_equal(twice[0], image)
    np.testing.assert_array_equal(twice[1], boxes)


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 0), (1.0, 100), (0.5, 50)])
def test_flips_come_with_their_probability(probability, expected):
    image, boxes = tf.constant([[[0] * 3, [9] * 3]], tf.uint8), tf.zeros([0, 4])
    run = tf.function(lambda seed: random_flip(image, boxes, probability, seed)[0], autograph=False)
    flips = sum(int(run(tf.constant([k, 0]))[0, 0, 0] == 9) for k in range(100))
    assert abs(flips - expected) <= (0 if probability in (0, 1) else 15)


def test_both_flips_come_independently_with_their_probabilities():
    image, boxes = tf.reshape(tf.range(12), [2, 2, 3]), tf.zeros([0, 4])
    config = AugmentConfig(flip=0.5, flip_vertical=0.3)
    run = tf.function(
        lambda seed: random_flips(image, boxes, config, seed)[0][0, 0, 0], autograph=False
    )
    first = np.array([run(tf.constant([k, 0])) for k in range(300)])
    shares = [np.mean(first == value) for value in (0, 3, 6, 9)]  # none, across, down, both
    np.testing.assert_allclose(shares, [0.35, 0.35, 0.15, 0.15], atol=0.08)


def test_jittered_rectangles_fill_their_boxes(painted):
    run = tf.function(
        lambda image, boxes, seed: jitter_and_crop(
            image, boxes, CANVAS, NO_COLOUR, (0.3, 3.0), seed
        ),
        autograph=False,
    )
    num_seen = 0
    for seed, image, boxes in _rectangles(painted):
        canvas, moved, _ = run(image, boxes, tf.constant([seed, 0]))
        extent = painted.extent(canvas, threshold=127)
        if not has_area(moved)[0]:
            assert extent is None
        elif extent is not None:
            num_seen += 1
            # Half a pixel of the threshold; a cut edge may show half a source pixel more.
            np.testing.assert_allclose(extent, moved[0], atol=1.0)
    assert num_seen > 150


def test_scale_of_jitter_is_canvas_pixels_per_image_pixel(painted):
    box = (20, 20, 40, 40)
    image, boxes = painted.paint(SIZE, box), tf.constant([box], tf.float32)
    canvas, moved, scale = jitter_and_crop(
        image, boxes, CANVAS, NO_COLOUR, (0.5, 0.5), tf.constant([1, 2])
    )
    np.testing.assert_allclose(scale, 0.5 * 64 / 72, rtol=1e-6)
    np.testing.assert_allclose(moved[0], np.array(box) * scale.numpy(), atol=0.5)
    assert canvas.shape == (64, 64, 3)


def test_jitter_of_one_fits_the_image():
    image = np.full((*SIZE, 3), 100, np.uint8)
    canvas, _, _ = jitter_and_crop(
        image, tf.zeros([0, 4]), CANVAS, (1.0, 2.0, 3.0), (1.0, 1.0), tf.constant([3, 4])
    )
    rows = 56 * 64 // 72
    assert np.all(canvas[: rows - 1] == 100)
    np.testing.assert_array_equal(
        canvas[rows + 1 :], np.broadcast_to([1, 2, 3], (63 - rows, 64, 3))
    )


def test_grid_mask_comes_with_its_probability():
    image = tf.fill([40, 40, 3], tf.constant(200, tf.uint8))
    run = tf.function(lambda seed: random_grid_mask(image, 0.5, seed), autograph=False)
    masked = sum(bool(tf.reduce_any(run(tf.constant([k, 1])) == 0)) for k in range(100))
    assert 35 <= masked <= 65


@pytest.mark.parametrize("policy", ["", "v0", "randaug"])
def test_any_number_of_boxes_goes_through_everything(policy):
    config = AugmentConfig(autoaugment=policy, grid_mask=0.5, hue=0.1, flip_vertical=0.5)
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    run = tf.function(
        lambda boxes, seed: augment_image(image, boxes, config, CANVAS, NO_COLOUR, seed),
        input_signature=[tf.TensorSpec([None, 4]), tf.TensorSpec([2], tf.int32)],
        autograph=False,
    )
    for k in range(15):
        count = (0, 1, 7)[k % 3]
        boxes = np.tile(np.array([[5, 6, 30, 40]], np.float32), (count, 1))
        canvas, moved, scale = run(boxes, tf.constant([k, 5]))
        assert canvas.shape == (64, 64, 3) and moved.shape == (count, 4)
        assert np.isfinite(canvas).all() and np.isfinite(moved).all() and scale > 0
        assert np.all(moved >= 0) and np.all(moved <= 64)


def test_same_seed_gives_the_same_and_another_seed_does_not():
    config = AugmentConfig(autoaugment="randaug", grid_mask=0.5)
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    boxes = np.array([[5, 6, 30, 40]], np.float32)
    run = tf.function(
        lambda seed: augment_image(image, boxes, config, CANVAS, NO_COLOUR, seed), autograph=False
    )
    first, again, other = (run(tf.constant([k, 0])) for k in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"flip": 1.5}, "flip"),
        ({"mosaic": -0.1}, "mosaic"),
        ({"grid_mask": 2}, "grid_mask"),
        ({"jitter_min": 0}, "jitter_min"),
        ({"jitter_min": 2.0, "jitter_max": 1.0}, "jitter_max"),
        ({"autoaugment": "v9"}, "v9"),
        ({"geometry": "round"}, "'crop' or 'affine'"),
        ({"flip_vertical": 2}, "flip_vertical"),
        ({"mosaic_nine": 2, "geometry": "affine"}, "mosaic_nine"),
        ({"hue": -0.1}, "hue"),
        ({"scale": 1.0, "geometry": "affine"}, "scale must be in 0..0.99"),
        ({"perspective": 0.01, "geometry": "affine"}, "perspective"),
        ({"mixup": 0.5}, "mixup belongs to augment.geometry=affine"),
        ({"paste_in": 0.5}, "paste_in belongs"),
        ({"translate": 0.1}, "translate belongs"),
        ({"geometry": "affine", "jitter_min": 0.5}, "jitter_min belongs to augment.geometry=crop"),
        ({"geometry": "affine", "autoaugment": "v0"}, "autoaugment belongs"),
        ({"geometry": "affine", "grid_mask": 0.5}, "grid_mask belongs"),
    ],
)
def test_impossible_settings_are_refused(settings, key):
    with pytest.raises(UserError, match=key):
        AugmentConfig(**settings)
