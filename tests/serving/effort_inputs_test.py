"""Tests of what signatures make of a threshold and an effort."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.detectors.calibration import Calibration
from tfdet.serving.effort_inputs import NOT_GIVEN, EffortInputs

SCORES = np.random.default_rng(0).uniform(0.1, 0.9, 11).astype(np.float32)
TABLE = Calibration.from_scores(SCORES, (1.0, 2.0))
PER_IMAGE = EffortInputs(0.3, TABLE.thresholds, is_per_image=True)


def _chosen(inputs, images, *given):
    tensors = (tf.constant(x, tf.float32) for x in given)
    return inputs.chosen(tf.zeros([images, 2]), *tensors).numpy()


def test_thresholds_of_efforts_are_exactly_those_of_the_calibration():
    # Tenths are the scores themselves here: the least rounding would move images.
    efforts = [*np.linspace(0, 1, 11).tolist(), 0.123456, 0.999999]
    found = _chosen(PER_IMAGE, len(efforts), NOT_GIVEN, efforts)
    expected = [np.float32(TABLE.threshold_for(effort=effort)) for effort in efforts]
    np.testing.assert_array_equal(found, expected)


def test_an_effort_counts_before_a_threshold_and_that_before_the_models_own():
    own = np.float32(0.3)
    assert _chosen(PER_IMAGE, 2, NOT_GIVEN, NOT_GIVEN).tolist() == [own, own]
    assert _chosen(PER_IMAGE, 2, 0.5, NOT_GIVEN).tolist() == [0.5, 0.5]
    assert _chosen(PER_IMAGE, 3, [0.5, NOT_GIVEN, 0.25], [NOT_GIVEN, NOT_GIVEN, 1.0]).tolist() == [
        0.5,
        own,
        1.0,
    ]


def test_efforts_beyond_the_ends_are_the_ends():
    assert _chosen(PER_IMAGE, 1, NOT_GIVEN, 7.0) == 1.0
    assert _chosen(PER_IMAGE, 0, NOT_GIVEN, 0.5).shape == (0,)


def test_values_for_another_number_of_images_are_refused():
    with pytest.raises(tf.errors.InvalidArgumentError):
        _chosen(PER_IMAGE, 3, NOT_GIVEN, [0.5, 0.5])


def test_without_a_calibration_there_is_a_threshold_alone():
    inputs = EffortInputs(0.3)
    assert [spec.name for spec in inputs.specs] == list(inputs.defaults) == ["threshold"]
    assert inputs.specs[0].shape.rank == 0
    assert _chosen(inputs, 4, NOT_GIVEN) == np.float32(0.3)
    assert [spec.shape.rank for spec in PER_IMAGE.specs] == [None, None]
