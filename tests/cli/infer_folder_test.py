"""Tests of the folder that `tfdet-infer` writes."""

import json
import pathlib

import pytest

from tfdet.cli import infer_folder
from tfdet.errors import UserError


@pytest.mark.parametrize(
    ("images", "pictures"),
    [
        (["a/x.jpg", "a/y.png"], ["x.jpg", "y.jpg"]),
        (
            ["a/x.jpg", "a/x.png", "b/x.jpg", "c/x~2.jpg"],
            ["x.jpg", "x~2.jpg", "x~3.jpg", "x~2~2.jpg"],
        ),
        (["x~2.jpg", "a/x.jpg", "b/x.jpg"], ["x~2.jpg", "x.jpg", "x~3.jpg"]),
        (["a/x.jpg", "b/X.JPG"], ["x.jpg", "X~2.jpg"]),
        (["a/x.tar.gz.jpg", "a/.jpg"], ["x.tar.gz.jpg", ".jpg.jpg"]),
    ],
)
def test_no_two_pictures_share_a_name(images, pictures):
    assert list(infer_folder.picture_names(images).values()) == pictures


def test_detections_are_valid_json_at_any_moment(tmp_path, monkeypatch):
    monkeypatch.setattr(infer_folder, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(infer_folder, "_TIME_FRACTION", 1e9)
    folder = infer_folder.Folder(tmp_path / "out", [], ["a.jpg", "b.jpg"])
    folder.start()
    path = tmp_path / "out" / infer_folder.DETECTIONS
    assert json.loads(path.read_text()) == []
    for i, name in enumerate("ab", 1):
        folder.add({"picture": f"{name}.jpg"})
        assert len(json.loads(path.read_text())) == folder.num_saved == i


def test_detections_are_not_written_after_each_image(tmp_path):
    folder = infer_folder.Folder(tmp_path / "out", [], ["a.jpg"])
    folder.start()
    for _ in range(100):
        folder.add({"picture": "a.jpg"})
    assert folder.num_saved == 0
    folder.save()
    assert folder.num_saved == 100


@pytest.mark.parametrize(
    "content", ["{", '{"mine": 1}', "[1]", '[{"file": "x"}]', '[{"picture": 5}]', "[" * 10**5]
)
def test_detections_of_others_are_never_replaced(tmp_path, content):
    (tmp_path / infer_folder.DETECTIONS).write_text(content)
    with pytest.raises(UserError, match="which tfdet-infer did not write"):
        infer_folder.Folder(tmp_path, [], ["a.jpg"], overwrite=True)


def test_nothing_outside_or_of_another_kind_is_cleared(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "x.jpg").touch()
    (out / "notes.txt").touch()
    entries = [{"picture": "../x.jpg"}, {"picture": "notes.txt"}]
    (out / infer_folder.DETECTIONS).write_text(json.dumps(entries))
    infer_folder.Folder(out, [], ["a.jpg"], overwrite=True).start()
    assert (tmp_path / "x.jpg").exists()
    assert (out / "notes.txt").exists()


def test_pictures_of_a_killed_inference_are_known_by_their_sign(tmp_path):
    import numpy as np

    from tfdet.visualization import draw

    picture = np.zeros((8, 8, 3), np.uint8)
    draw.save_picture(tmp_path / "ours.jpg", picture, infer_folder.WRITER)
    draw.save_picture(tmp_path / "of_training.jpg", picture)
    (tmp_path / infer_folder.DETECTIONS).write_text("[\n\n]\n")
    infer_folder.Folder(tmp_path, [], ["ours.jpg"], overwrite=True).start()
    names = {path.name for path in pathlib.Path(tmp_path).iterdir()}
    assert names == {"of_training.jpg", infer_folder.DETECTIONS}
