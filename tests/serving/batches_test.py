"""Tests of images of any size in batches."""

import numpy as np
import pytest
import tensorflow as tf

import tfdet
from tfdet.serving import batches, compare, verify
from tfdet.serving.driver import ModelDriver, SavedModelDriver

SIZES = ((50, 90), (131, 40), (64, 64), (64, 64), (1, 200), (300, 11), (33, 77))


@pytest.fixture(scope="module")
def images():
    return [verify._crowded_scene(*size, seed=i) for i, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def earlier_export(model, exported, tmp_path_factory):
    """As exports were before they took fitted images."""
    loaded = tf.saved_model.load(str(exported[0]))
    signatures = {name: f for name, f in loaded.signatures.items() if name != "serving_fitted"}
    path = tmp_path_factory.mktemp("earlier") / "model"
    tf.saved_model.save(loaded, str(path), signatures=signatures)
    return path


@pytest.fixture(scope="module")
def python(model):
    return ModelDriver(model)


@pytest.fixture(scope="module", params=["model", "export", "earlier export"])
def driver(request, python, exported):
    if request.param == "model":
        return python
    if request.param == "export":
        return SavedModelDriver(exported[0])
    return SavedModelDriver(request.getfixturevalue("earlier_export"))


def _assert_equal_to_single(driver, detector, images, threshold=None, least=20):
    found = detector.detect([detector.fit(image) for image in images])
    assert len(found) == len(images)
    total = 0
    for image, one in zip(images, found, strict=True):
        expected = driver.detect(image[None], threshold)
        assert set(one) == set(expected)
        difference = compare.compare(expected, one, str(image.shape))
        assert difference.mismatches == ()
        total += difference.detections
    assert total >= least
    return found


@pytest.mark.parametrize("size", [1, 3, 32])
def test_a_batch_finds_what_single_images_do(driver, images, size):
    _assert_equal_to_single(driver, batches.BatchDetector(driver, size), images)


def test_export_takes_fitted_images_and_earlier_ones_do_not(exported, earlier_export, model):
    new, old = SavedModelDriver(exported[0]), SavedModelDriver(earlier_export)
    np.testing.assert_allclose(new.pad_value, model.pad_value, rtol=1e-6)
    assert old.pad_value is None
    with pytest.raises(tfdet.UserError, match="export it again"):
        old.detect_fitted(np.zeros((1, 64, 64, 3), np.float32), np.ones(1), np.ones((1, 2)))


class _Small:
    """A driver on a device that has no memory for more than `most` images."""

    def __init__(self, driver, most):
        self._driver, self._most, self.tried = driver, most, []

    def __getattr__(self, name):
        return getattr(self._driver, name)

    def detect_fitted(self, canvas, *others):
        self.tried.append(len(canvas))
        if len(canvas) > self._most:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return self._driver.detect_fitted(canvas, *others)


def test_a_batch_that_does_not_fit_is_halved_for_good(python, images, caplog):
    small = _Small(python, 2)
    detector = batches.BatchDetector(small, 8)
    _assert_equal_to_single(small, detector, images)
    assert small.tried == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert detector.batch_size == 1
    assert "7 images in a batch do not fit into memory; going on with 3" in caplog.text


def test_an_image_that_does_not_fit_alone_is_an_error(python, images):
    detector = batches.BatchDetector(_Small(python, 0), 4)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        detector.detect([detector.fit(image) for image in images])


def test_other_errors_are_not_taken_for_a_lack_of_memory(python, images):
    detector = batches.BatchDetector(python, 4)
    whole = detector.fit(images[0])
    broken = batches.Fitted(whole.image, whole.canvas[:-1], whole.scale)
    with pytest.raises((ValueError, TypeError)):
        detector.detect([broken, broken])


def test_an_export_of_a_fixed_batch_is_filled_up(tmp_path, images):
    """The only one whose batches have images that are not in the data."""
    seen = []

    def detect(images):
        seen.append(images.shape)
        rows = tf.reduce_mean(tf.cast(images, tf.float32), axis=(1, 2, 3))
        return {
            "boxes": tf.tile(rows[:, None, None], [1, 1, 4]),
            "scores": rows[:, None] / 255,
            "labels": tf.zeros([3, 1], tf.int32),
            "count": tf.ones([3], tf.int32),
        }

    facts = {
        "class_names": tf.constant(["a"]),
        "class_ids": tf.constant([1], tf.int64),
        "image_size": tf.constant([64, 64], tf.int32),
    }
    spec = tf.TensorSpec([3, None, None, 3], tf.uint8)
    tf.saved_model.save(
        tf.Module(),
        str(tmp_path / "fixed"),
        {
            "serving_default": tf.function(detect, input_signature=[spec], autograph=False),
            "metadata": tf.function(lambda: facts, input_signature=[], autograph=False),
        },
    )
    driver = SavedModelDriver(tmp_path / "fixed")
    detector = batches.BatchDetector(driver, 16)
    assert driver.batch_size == detector.batch_size == 3
    found = detector.detect([detector.fit(image) for image in images])
    means = [image.mean() / 255 for image in images]
    np.testing.assert_allclose([x["scores"][0, 0] for x in found], means, rtol=1e-4)
    assert all(shape[0] == 3 for shape in seen)


@pytest.fixture(scope="module", params=["dy-yolov7-test", "caddet-test"])
def dynamic(request):
    """A driver, and how many detections the images have at the least."""
    # A CADDet that was never trained finds nothing, but has its costs and gates.
    least = 0 if request.param == "caddet-test" else 20
    return ModelDriver(tfdet.create(request.param, num_classes=3)), least


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_dynamic_detectors_report_each_image_by_itself(dynamic, threshold, images):
    driver, least = dynamic
    detector = batches.BatchDetector(driver, 4, threshold)
    found = _assert_equal_to_single(driver, detector, images, threshold, least)
    assert all(one["macs"].shape == (1,) for one in found)


@pytest.mark.parametrize(
    ("image_size", "size"),
    [
        ((64, 64), 32),
        ((256, 256), 32),
        ((288, 384), 16),
        ((512, 512), 8),
        ((640, 640), 4),
        ((1024, 1024), 2),
        ((800, 1344), 1),
        ((8192, 8192), 1),
    ],
)
def test_default_size_of_a_batch_follows_the_canvas(image_size, size):
    assert batches.default_batch_size(image_size) == size


def test_fitting_needs_the_memory_that_it_says(exported, images):
    detector = batches.BatchDetector(SavedModelDriver(exported[0]), 2)
    for image in images:
        assert detector.fit(image).nbytes == detector.fitted_bytes(image.shape[:2])
