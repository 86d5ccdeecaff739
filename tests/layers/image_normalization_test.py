import numpy as np
import pytest

from tfdet.layers.image_normalization import IMAGENET_MEAN, IMAGENET_STD, ImageNormalization


@pytest.mark.parametrize("dtype", ["uint8", "float32", "int32"])
def test_pixels_of_any_dtype_are_normalised_alike(dtype):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3))
    expected = (images - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(ImageNormalization()(images.astype(dtype)), expected, atol=1e-5)


def test_constants_are_those_of_the_torch_and_tensorflow_models():
    np.testing.assert_allclose(IMAGENET_MEAN, 255 * np.array([0.485, 0.456, 0.406]))
    np.testing.assert_allclose(IMAGENET_STD, 255 * np.array([0.229, 0.224, 0.225]))


def test_half_precision_starts_from_exact_pixels():
    images = np.full((1, 1, 1, 3), 124.0, "float32")
    normalized = ImageNormalization(dtype="mixed_float16")(images)
    assert normalized.dtype.name == "float16"
    np.testing.assert_allclose(normalized[0, 0, 0, 0], 0.325 / 58.395, rtol=1e-3)


def test_it_has_no_variables():
    assert not ImageNormalization().variables
