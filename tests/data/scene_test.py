import dataclasses
import functools
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfdet.data.augment import AugmentConfig
from tfdet.data.builder import DatasetBuilder
from tfdet.data.loader import ImageLoader
from tfdet.data.scene import SceneMaker, mixup
from tfdet.data.sources import open_dataset
from tfdet.errors import UserError

SIZE = (64, 80)
SLOW = pytest.mark.slow
STILL = AugmentConfig(geometry="affine", flip=0.0, mosaic_nine=0.0)
RECIPE = AugmentConfig(
    geometry="affine", mosaic=1.0, mixup=0.15, paste_in=0.15, hue=0.015, saturation=0.7, value=0.4
)
EVERYTHING = dataclasses.replace(
    RECIPE, mosaic=0.7, mixup=0.5, paste_in=0.5, degrees=20.0, shear=5.0, perspective=0.0005
)


def _dataset(pictures, boxes):
    """A data set in memory: images uint8 [H, W, 3] and their boxes; labels are positions."""
    builder = DatasetBuilder("pictures", [f"class {k}" for k in range(len(pictures))])
    encoded = []
    for k, (picture, rows) in enumerate(zip(pictures, boxes, strict=True)):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        encoded.append(file.getvalue())
        size, labels = picture.shape[:2], [k] * len(rows)
        builder.add_image(k, f"{k:03d}.png", f"{k:03d}.png", size, rows, labels, span=(0, 0))
    return dataclasses.replace(builder.build(lambda k: encoded[k]), spans=None)


def _maker(dataset, config, kind=SceneMaker):
    maker = kind(ImageLoader(dataset, keep_decoded=True), config, SIZE)
    signature = [tf.TensorSpec([], tf.int64), tf.TensorSpec([2], tf.int32)]
    return tf.function(maker.make, input_signature=signature, autograph=False)


def _make(run, index, seed):
    picture, scale = run(tf.constant(index, tf.int64), tf.constant([seed, 9]))
    return tf.nest.map_structure(np.asarray, picture), float(scale)


@pytest.fixture(scope="module")
def shapes():
    return open_dataset("shapes:train:10")


@pytest.fixture(scope="module")
def maker_of(shapes):
    """Makers of scenes of `shapes` by their configuration, each traced once."""
    return functools.cache(lambda config: _maker(shapes, config))


class _InOrder(SceneMaker):
    """The other images of a mosaic are the first ones, each once."""

    def _random_indices(self, count, seed):
        return tf.range(count, dtype=tf.int64)


def _coloured_rectangles(painted):
    """Images with a red, a green and a blue rectangle, then dark empty ones, then a blue one."""
    sizes = [
        (50, 70),
        (90, 40),
        (64, 80),
        (30, 30),
        (20, 90),
        (100, 100),
        (9, 8),
        (7, 70),
        (70, 70),
    ]
    pictures, boxes = [], []
    for k, size in enumerate(sizes):
        picture, rows = np.zeros((*size, 3), np.uint8), []
        if k in (0, 1, 8):
            x0, y0, x1, y1 = painted.random_rectangle(k, size)
            picture[y0:y1, x0:x1, min(k, 2)] = 255
            rows = [(x0, y0, x1, y1)]
        pictures.append(picture)
        boxes.append(rows)
    return _dataset(pictures, boxes)


@pytest.mark.parametrize(
    ("settings", "num_least"),
    [
        ({"mosaic": 1.0, "mosaic_nine": 0.0}, 200),
        ({"mosaic": 1.0, "mosaic_nine": 1.0}, 150),
        ({"mosaic": 0.0}, 120),
        ({"mosaic": 0.5, "flip": 0.5, "flip_vertical": 0.5, "degrees": 10.0}, 150),
    ],
)
def test_painted_rectangles_fill_their_boxes(painted, settings, num_least):
    dataset = _coloured_rectangles(painted)
    run, num_seen = _maker(dataset, dataclasses.replace(STILL, **settings), _InOrder), 0
    for seed in range(200):
        picture, scale = _make(run, 8, seed)
        factor = scale * max(np.array([70, 70]) / SIZE)
        for k, row in enumerate((0, 1, 8)):  # red, green, blue
            boxes = picture.boxes[picture.labels == row]
            others = np.delete(picture.image, k, axis=-1).max(-1, keepdims=True)
            # Half covered; less for turned rectangles, whose tips are thinner than a pixel.
            threshold = 50 if "degrees" in settings else 127
            extent = painted.extent(np.maximum(picture.image[..., [k]] - others, 0), threshold)
            if len(boxes) and extent is not None:
                num_seen += 1
                np.testing.assert_allclose(extent, boxes[0], atol=1.5)
            elif extent is not None:
                sides = extent[2:] - extent[:2]
                own_size, own_box = dataset.sizes[row], dataset.boxes[dataset.rows(row)][0]
                enlarged = factor * min(np.array(SIZE) / own_size)
                area = np.prod(own_box[2:] - own_box[:2]) * enlarged**2
                assert sides.min() <= 3 or sides.prod() < 0.2 * area
    assert num_seen > num_least


def test_a_mosaic_shows_many_images_and_its_absence_one(shapes, maker_of):
    alone = maker_of(dataclasses.replace(STILL, scale=0.0, translate=0.0))
    for index in range(10):
        picture, scale = _make(alone, index, index)
        assert len(picture.boxes) <= len(shapes.boxes[shapes.rows(index)])
        assert 0.25 <= scale <= 0.25 * 1.1 and picture.index == index
        bar = 64 - int(64 * scale * 4)  # the long bars beside the fitted image
        assert np.all(picture.image[:, : 8 - 4] == 114) and bar <= 0
    joined = maker_of(dataclasses.replace(STILL, mosaic=1.0, scale=0.9))
    counts = [len(_make(joined, k % 10, k)[0].boxes) for k in range(100)]
    assert np.mean(counts) > 1.5 * len(shapes.boxes) / 10


def test_fitted_image_stands_in_the_middle():
    """The letterbox of the second training step; a factor of one at the seed that is used."""
    wide = _dataset([np.full((21, 80, 3), 200, np.uint8)], [[(0, 0, 80, 21)]])
    picture, scale = _make(_maker(wide, dataclasses.replace(STILL, scale=0.0, translate=0.0)), 0, 4)
    lit = np.flatnonzero(picture.image[:, 40, 0] > 157)
    # Of 43 free rows 21 lie before: then the map enlarges around the middle of the canvas.
    np.testing.assert_allclose(lit[0], 32 + (21 - 32) * scale, atol=1)
    np.testing.assert_allclose(lit[-1] + 1, 32 + (42 - 32) * scale, atol=1)


@pytest.mark.parametrize("config", [STILL, pytest.param(RECIPE, marks=SLOW), EVERYTHING])
def test_pictures_are_valid_and_follow_from_the_seed(maker_of, config):
    run = maker_of(config)
    for k in range(30):
        picture, scale = _make(run, k % 10, k)
        assert picture.image.shape == (*SIZE, 3) and picture.image.dtype == np.float32
        assert picture.image.min() >= 0 and picture.image.max() <= 255.01
        assert len(picture.boxes) == len(picture.labels) == len(picture.is_crowd)
        assert np.all(picture.boxes[:, 2:] - picture.boxes[:, :2] > 2)
        assert np.all(picture.boxes >= 0) and np.all(picture.boxes <= [80, 64, 80, 64])
        assert np.isfinite(scale) and scale > 0
        if k < 5:
            again, _ = _make(run, k, k)
            for a, b in zip(picture, again, strict=True):
                np.testing.assert_array_equal(a, b)
            assert not np.array_equal(picture.image, _make(run, k, k + 100)[0].image)


@pytest.mark.parametrize("degrees", [pytest.param(0.0, marks=SLOW), 20.0])
def test_odd_images_go_through_everything(degrees):
    """Empty ones, one pixel, one row, one column, one-pixel boxes, boxes that fill the image."""
    sizes = [(40, 40), (1, 1), (1, 300), (300, 1), (30, 40), (2, 2)]
    pictures = [np.full((*size, 3), 90 + k, np.uint8) for k, size in enumerate(sizes)]
    tiny = [(5, 5, 6, 6), (0, 0, 1, 1), (39, 29, 40, 30), (0, 0, 40, 30)]
    dataset = _dataset(pictures, [[], [(0, 0, 1, 1)], [], [(0, 9, 1, 12)], tiny, [(0, 0, 2, 2)]])
    num_empty = 0
    config = dataclasses.replace(RECIPE, mosaic=0.5, paste_in=0.0, degrees=degrees)
    run = _maker(dataset, config)
    for seed in range(60):
        picture, _ = _make(run, seed % 6, seed)
        assert np.all(np.isfinite(picture.image)) and np.all(np.isfinite(picture.boxes))
        assert np.all(picture.boxes[:, 2:] - picture.boxes[:, :2] > 2)
        num_empty += len(picture.boxes) == 0
    assert 0 < num_empty < 60


def test_mixup_blends_pixels_and_joins_the_objects(maker_of):
    run = maker_of(dataclasses.replace(STILL, mosaic=1.0))
    (first, _), (second, _) = _make(run, 1, 1), _make(run, 2, 2)
    shares = []
    for seed in range(200):
        mixed = mixup(first, second, tf.constant([seed, 0]))
        difference = (first.image - second.image).astype(np.float64)
        share = np.sum((mixed.image - second.image) * difference) / np.sum(difference**2)
        expected = share * first.image + (1 - share) * second.image
        np.testing.assert_allclose(mixed.image, expected, atol=1e-2)
        np.testing.assert_array_equal(mixed.boxes, np.concatenate([first.boxes, second.boxes]))
        np.testing.assert_array_equal(mixed.labels, np.concatenate([first.labels, second.labels]))
        assert len(mixed.is_crowd) == len(mixed.labels) and mixed.index == 1
        shares.append(share)
    # Beta(8, 8): mean 1/2, deviation sqrt(1/68).
    assert abs(np.mean(shares) - 0.5) < 0.03 and abs(np.std(shares) - 0.1213) < 0.02


def test_steps_come_with_their_probabilities(maker_of):
    still = dataclasses.replace(STILL, scale=0.0, translate=0.0)
    plain = maker_of(still)
    # Often there is no room for what would be pasted.
    for key, least in (("mixup", 0.15), ("paste_in", 0.02)):
        run = maker_of(dataclasses.replace(still, **{key: 0.3}))
        changed = [
            not np.array_equal(_make(run, 0, k)[0].image, _make(plain, 0, k)[0].image)
            for k in range(70)
        ]
        assert least < np.mean(changed) < 0.42, key


def test_flips_move_all(maker_of):
    """With both flips the picture and its boxes are turned by half."""
    still = dataclasses.replace(STILL, mosaic=1.0)
    upright, _ = _make(maker_of(still), 3, 5)
    turned, _ = _make(maker_of(dataclasses.replace(still, flip=1.0, flip_vertical=1.0)), 3, 5)
    np.testing.assert_array_equal(turned.image, upright.image[::-1, ::-1])
    limits = np.array([80, 64, 80, 64], np.float32)
    np.testing.assert_allclose(turned.boxes, limits - upright.boxes[:, [2, 3, 0, 1]], atol=1e-4)


def test_perspective_beyond_the_horizon_is_refused(shapes):
    config = dataclasses.replace(STILL, perspective=0.001)
    SceneMaker(ImageLoader(shapes), config, SIZE)
    with pytest.raises(UserError, match=r"perspective may be at most 0\.0007 "):
        SceneMaker(ImageLoader(shapes), config, (640, 640))
