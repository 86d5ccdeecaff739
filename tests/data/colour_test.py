import colorsys

import numpy as np
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from tfdet.data import colour


def _picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(30, 200, (6, 8, 3), np.uint8))
    return np.asarray(coarse.resize((96, 64), Image.Resampling.BICUBIC))


def test_equalize_agrees_with_pillow():
    image = _picture()
    expected = np.asarray(ImageOps.equalize(Image.fromarray(image))).astype(int)
    difference = np.abs(colour.equalize(tf.constant(image)).numpy() - expected)
    # Pillow divides whole numbers, Keras does not: a level here and there.
    assert difference.mean() < 2 and difference.max() <= 5


def test_colour_agrees_with_pillow():
    image = _picture()
    for factor in (0.0, 0.5, 1.0, 1.6):
        expected = np.asarray(ImageEnhance.Color(Image.fromarray(image)).enhance(factor))
        result = colour.colour(tf.constant(image), factor).numpy()
        assert np.abs(result.astype(int) - expected).max() <= 2


def test_sharpness_agrees_with_pillow():
    image = _picture()
    for factor in (0.0, 1.0, 1.54):
        expected = np.asarray(ImageEnhance.Sharpness(Image.fromarray(image)).enhance(factor))
        result = colour.sharpness(tf.constant(image), factor).numpy()
        assert np.abs(result.astype(int) - expected).max() <= 1


def test_solarize_inverts_bright_values():
    image = tf.constant([[[0, 99, 100], [200, 255, 101]]], tf.uint8)
    expected = [[[0, 99, 155], [55, 0, 154]]]
    np.testing.assert_array_equal(colour.solarize(image, 100.0), expected)


def test_solarize_add_brightens_dark_values():
    image = tf.constant([[[0, 100, 127], [128, 200, 255]]], tf.uint8)
    expected = [[[110, 210, 237], [128, 200, 255]]]
    np.testing.assert_array_equal(colour.solarize_add(image, 110.0), expected)


def test_cutout_greys_one_square():
    image = tf.zeros([50, 70, 3], tf.uint8)
    for k in range(30):
        rows, columns = np.nonzero(colour.cutout(image, 8.0, tf.constant([k, 0]))[..., 0].numpy())
        assert 8 <= np.ptp(rows) + 1 <= 15 and 8 <= np.ptp(columns) + 1 <= 15
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_grid_mask_blackens_the_share_that_it_should():
    image = tf.fill([200, 200, 3], tf.constant(200, tf.uint8))
    shares = [float(np.mean(colour.grid_mask(image, tf.constant([k, 0])) == 0)) for k in range(50)]
    assert abs(np.mean(shares) - 0.4**2) < 0.02
    assert min(shares) > 0.05


def test_hsv_jitter_without_gains_changes_nothing():
    image = tf.cast(_picture(), tf.float32)
    for k in range(5):
        result = colour.hsv_jitter(image, (0.0, 0.0, 0.0), tf.constant([k, 0]))
        np.testing.assert_allclose(result, image, atol=1e-3)


def test_hsv_jitter_agrees_with_colorsys():
    """The factors are found from three pixels; then each of many must be what colorsys says."""
    probe = np.array([[[60, 100, 80], [100, 100, 100], [80, 60, 70]]], np.float32)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 60, 3)).astype(np.float32)
    pixels[0, :4] = [[0, 0, 0], [255, 255, 255], [255, 0, 0], [255, 0, 1]]
    gains = (0.3, 0.7, 0.4)
    for k in range(20):
        image = np.concatenate([probe, pixels], axis=1)
        result = colour.hsv_jitter(image, gains, tf.constant([k, 1])).numpy()
        before, after = ([colorsys.rgb_to_hsv(*p) for p in x[0] / 255] for x in (image, result))
        factors = [after[0][c] / before[0][c] for c in range(3)]
        assert all(abs(f - 1) <= g + 1e-4 for f, g in zip(factors, gains, strict=True))
        for (hue, saturation, value), pixel in zip(before, result[0], strict=True):
            changed = (hue * factors[0] % 1, saturation * factors[1], value * factors[2])
            expected = colorsys.hsv_to_rgb(changed[0], min(changed[1], 1), min(changed[2], 1))
            np.testing.assert_allclose(pixel, 255 * np.array(expected), atol=0.1)


def test_hsv_factors_fill_their_ranges():
    image = np.array([[[60, 100, 80]]], np.float32)
    run = tf.function(
        lambda seed: colour.hsv_jitter(image, (0.1, 0.5, 0.4), seed)[0, 0] / 255, autograph=False
    )
    drawn = np.array([colorsys.rgb_to_hsv(*run(tf.constant([k, 0])).numpy()) for k in range(200)])
    factors = drawn / colorsys.rgb_to_hsv(60 / 255, 100 / 255, 80 / 255)
    np.testing.assert_allclose(factors.min(axis=0), [0.9, 0.5, 0.6], atol=0.02)
    np.testing.assert_allclose(factors.max(axis=0), [1.1, 1.5, 1.4], atol=0.02)
