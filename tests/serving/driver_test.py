"""Tests of the drivers: a model and its export are run alike."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops import pack_native
from tfdet.serving import compare, verify
from tfdet.serving import driver as driver_lib
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


def _foreign(path, detections=None, **metadata):
    """Signatures of our names by another program: a class "a", an image size, one detection."""
    facts = {
        "class_names": tf.constant(["a"]),
        "class_ids": tf.constant([1], tf.int64),
        "image_size": tf.constant([64, 64], tf.int32),
    }
    facts = {name: x for name, x in {**facts, **metadata}.items() if x is not None}
    given = {
        "boxes": tf.constant([[[1.0, 2.0, 3.0, 4.0]]]),
        "scores": tf.constant([[0.9]]),
        "labels": tf.constant([[0]], tf.int32),
        "count": tf.constant([1], tf.int32),
    }
    given = {name: x for name, x in {**given, **(detections or {})}.items() if x is not None}
    detect = tf.function(
        lambda images: given,
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)],
        autograph=False,
    )
    tf.saved_model.save(
        tf.Module(),
        str(path),
        {
            "serving_default": detect,
            "metadata": tf.function(lambda: facts, input_signature=[], autograph=False),
        },
    )
    return path


def test_driver_takes_whatever_keeps_to_the_form(tmp_path):
    driver = SavedModelDriver(_foreign(tmp_path / "other"))
    assert driver.detect(np.zeros((1, 8, 8, 3), np.uint8))["scores"].tolist() == [[np.float32(0.9)]]


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"class_names": None}, "its metadata has no class_names"),
        ({"class_ids": tf.constant(["x"])}, "its metadata has no class_ids"),
        ({"class_ids": tf.constant([1, 2], tf.int64)}, "its metadata has no class_ids"),
        ({"image_size": tf.constant([64], tf.int32)}, "its metadata has no image_size"),
    ],
)
def test_b21_foreign_metadata_is_refused(tmp_path, metadata, sentence):
    with pytest.raises(UserError, match=f"was not written by tfdet-export: {sentence}"):
        SavedModelDriver(_foreign(tmp_path / "other", **metadata))


@pytest.mark.parametrize(
    ("detections", "sentence"),
    [
        ({"labels": tf.constant([[5]], tf.int32)}, "labels 5 to 5, but has 1 class names"),
        ({"labels": tf.constant([[-1]], tf.int32)}, "labels -1 to -1, but has 1 class names"),
        ({"labels": None}, "it returns no labels"),
        ({"count": tf.constant([2], tf.int32)}, "its detections do not fit"),
        ({"boxes": tf.constant([[[1.0, 2.0, 3.0]]])}, "its detections do not fit"),
        ({"boxes": tf.constant([[[1.0, 2.0, 3.0, np.nan]]])}, "boxes that are no numbers"),
    ],
)
def test_b21_foreign_detections_are_refused(tmp_path, detections, sentence):
    driver = SavedModelDriver(_foreign(tmp_path / "other", detections))
    with pytest.raises(UserError, match=sentence):
        driver.detect(np.zeros((1, 8, 8, 3), np.uint8))


@pytest.fixture
def no_library(tmp_path, monkeypatch):
    """As where tfdet was installed without a compiler."""
    pack_native._load.cache_clear()
    monkeypatch.setenv("TFDET_PACK_LIBRARY", str(tmp_path / "nowhere.so"))
    yield
    pack_native._load.cache_clear()


def test_s1_a_library_in_the_folder_of_a_model_is_not_loaded(
    exported, tmp_path, no_library, monkeypatch
):
    path = tmp_path / "model"
    shutil.copytree(exported[0], path)
    library = path / driver_lib.LIBRARY_FOLDER / pack_native.LIBRARY
    library.parent.mkdir(exist_ok=True)
    library.write_bytes(b"whatever it does")
    monkeypatch.setattr(tf, "load_op_library", lambda path: pytest.fail(f"{path} is loaded"))
    assert SavedModelDriver(path).class_names


def test_s1_a_model_that_needs_the_op_says_what_to_do(tmp_path, no_library):
    (tmp_path / "saved_model.pb").write_bytes(b"... TfdetPack ...")
    with pytest.raises(UserError, match=r"own library of them cannot be used: .* if you trust"):
        SavedModelDriver(tmp_path)
