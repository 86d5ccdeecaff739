"""Tests of what is shown of an export; the command is in tests/cli/inspect_test.py."""

import json
import shutil

import keras
import pytest
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.serving import description, inspection
from tfdet.serving.description import Description
from tfdet.serving.driver import LIBRARY_FOLDER


@pytest.fixture(scope="module")
def found(exported):
    return inspection.inspect(exported[0])


def test_a_saved_model_shows_what_it_was_made_from(found, model):
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["status"] == inspection.READY
    assert plain["class_names"] == ["disc", "größe", "star"]
    assert plain["class_ids"] == [3, 7, 90]
    assert plain["versions"]["tensorflow"] == tf.__version__
    assert plain["versions"]["keras"] == keras.__version__
    assert plain["recipe"]["model"]["name"] == "efficientdet-test"
    assert plain["recipe"]["model"]["image_size"] == list(model.image_size)
    assert set(plain["signatures"]) == {"serving_default", "serving_encoded", "serving_fitted"}
    assert "status int32 [?]" in plain["signatures"]["serving_encoded"]["returns"]
    assert "images uint8 [?, ?, ?, ?]" in plain["signatures"]["serving_default"]["takes"]


def test_the_text_has_a_line_for_each_class(found):
    lines = [line.split() for line in found.to_text().splitlines()]
    assert ["1", "7", "größe"] in lines
    assert ["2", "90", "star"] in lines


def _described(folder, **changes):
    about = {
        "format": "onnx",
        "precision": "float32",
        "model": "a",
        "takes_canvas": False,
        "class_names": ("x",),
        "class_ids": (1,),
        "image_size": (8, 8),
        "pad_value": (0.0, 0.0, 0.0),
        **changes,
    }
    Description(**about).write(folder)


def test_what_does_not_run_here_is_shown_with_the_reason(tmp_path):
    _described(tmp_path)  # without the network
    found = inspection.inspect(tmp_path)
    assert found.status.startswith("does not run here: ")
    assert found.about.class_names == ("x",)


def test_an_export_of_an_earlier_version_is_shown_too(exported, tmp_path):
    path = tmp_path / "earlier"
    shutil.copytree(exported[0], path, ignore=shutil.ignore_patterns(LIBRARY_FOLDER))
    found = inspection.inspect(path)
    assert (found.status, found.about.class_ids) == (inspection.READY, (3, 7, 90))
    assert found.about.version == "an earlier one"


def test_efforts_have_their_costs_and_times(tmp_path):
    table = {
        "images": 12,
        "thresholds": tuple(i / 100 for i in range(101)),
        "shares": tuple(i / 100 for i in range(101)),
        "macs": tuple(1e9 + 1e7 * i for i in range(101)),
        "latency_ms": tuple(5 + 0.1 * i for i in range(101)),
    }
    from tfdet.detectors.calibration import Calibration

    _described(tmp_path, threshold=0.5, calibration=Calibration(**table))
    found = inspection.inspect(tmp_path)
    lines = [line.split() for line in found.to_text().splitlines()]
    assert ["0.3", "0.3", "0.30", "1.3", "8.00"] in lines
    assert found.to_dict()["calibration"]["efforts"][30] == pytest.approx(0.3)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="is not a SavedModel"):
        inspection.inspect(tmp_path)
    (tmp_path / description.FILE).write_text("{}")
    with pytest.raises(UserError, match="is not as tfdet-export writes it"):
        inspection.inspect(tmp_path)
