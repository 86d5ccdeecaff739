import numpy as np

from tfdet.ops.bilinear import bilinear_sample

MAPS = np.random.default_rng(0).normal(size=(2, 6, 8, 3)).astype(np.float32)


def test_whole_coordinates_are_cells_and_halves_their_means():
    places = np.array([[[2, 3], [2.5, 3], [2, 3.5], [2.5, 3.5]]] * 2, np.float32)
    found = np.array(bilinear_sample(MAPS, places))
    for values, image in zip(found, MAPS, strict=True):
        np.testing.assert_allclose(values[0], image[2, 3], rtol=1e-6)
        np.testing.assert_allclose(values[1], image[2:4, 3].mean(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(values[2], image[2, 3:5].mean(axis=0), rtol=1e-5, atol=1e-6)
        corners = image[2:4, 3:5].mean(axis=(0, 1))
        np.testing.assert_allclose(values[3], corners, rtol=1e-5, atol=1e-6)


def test_weights_are_factors():
    places = np.random.default_rng(1).uniform(-1, 8, (2, 5, 2)).astype(np.float32)
    weights = np.random.default_rng(2).uniform(0, 2, (2, 5, 1)).astype(np.float32)
    expected = np.array(bilinear_sample(MAPS, places)) * weights
    np.testing.assert_allclose(bilinear_sample(MAPS, places, weights), expected, rtol=1e-5)


def test_wild_and_nan_places_never_read_outside():
    places = np.array([[[1e30, -1e30], [np.nan, 2.0], [-0.5, 0.0], [4.5, 5.0]]], np.float32)
    found = np.array(bilinear_sample(MAPS[:1], places, np.ones((1, 4, 1), np.float32)))
    np.testing.assert_array_equal(found[0, 0], 0)
    np.testing.assert_allclose(found[0, 2], MAPS[0, 0, 0] / 2, rtol=1e-6)
    np.testing.assert_allclose(found[0, 3], MAPS[0, 4:6, 5].mean(axis=0), rtol=1e-5, atol=1e-6)
