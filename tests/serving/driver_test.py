"""Tests of the drivers: a model and its export are run alike."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.serving import compare, verify
from tfdet.serving.driver import ModelDriver, SavedModelDriver


def test_drivers_agree(model, exported):
    python, saved = ModelDriver(model), SavedModelDriver(exported[0])
    for attribute in ("class_names", "class_ids", "image_size"):
        assert getattr(python, attribute) == getattr(saved, attribute)
    images = np.stack([verify._crowded_scene(33, 77, seed=i) for i in range(2)])
    found = compare.compare(python.detect(images), saved.detect(images), "drivers")
    assert found.mismatches == ()
    assert found.detections == 200


@pytest.mark.parametrize("content", [None, "empty"])
def test_driver_refuses_what_is_no_export(tmp_path, content):
    path = tmp_path / "model"
    if content:
        path.mkdir()
    with pytest.raises(UserError, match="is not a SavedModel"):
        SavedModelDriver(path)


def test_driver_refuses_the_saved_model_of_another_program(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    with pytest.raises(UserError, match="was not written by tfdet-export"):
        SavedModelDriver(tmp_path / "other")
