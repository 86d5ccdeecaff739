"""Tests of the folder that `tfdet-infer` writes."""

import json
import pathlib

import pytest

from tfdet.cli import infer_folder
from tfdet.errors import UserError


def _plan(*pictures):
    return infer_folder.Plan({f"elsewhere/{name}": name for name in pictures})


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
    folder = infer_folder.Folder(tmp_path / "out", _plan("a.jpg", "b.jpg"))
    folder.start()
    path = tmp_path / "out" / infer_folder.DETECTIONS
    assert json.loads(path.read_text()) == []
    for i, name in enumerate("ab", 1):
        folder.add({"picture": f"{name}.jpg"})
        assert len(json.loads(path.read_text())) == folder.num_saved == i


def test_detections_are_not_written_after_each_image(tmp_path):
    folder = infer_folder.Folder(tmp_path / "out", _plan("a.jpg"))
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
        infer_folder.Folder(tmp_path, _plan("a.jpg"), overwrite=True)


def test_nothing_outside_or_of_another_kind_is_cleared(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "x.jpg").touch()
    (out / "notes.txt").touch()
    entries = [{"picture": "../x.jpg"}, {"picture": "notes.txt"}]
    (out / infer_folder.DETECTIONS).write_text(json.dumps(entries))
    infer_folder.Folder(out, _plan("a.jpg"), overwrite=True).start()
    assert (tmp_path / "x.jpg").exists()
    assert (out / "notes.txt").exists()


def test_pictures_of_a_killed_inference_are_known_by_their_sign(tmp_path):
    import numpy as np

    from tfdet.visualization import draw

    picture = np.zeros((8, 8, 3), np.uint8)
    draw.save_picture(tmp_path / "ours.jpg", picture, infer_folder.WRITER)
    draw.save_picture(tmp_path / "of_training.jpg", picture)
    (tmp_path / infer_folder.DETECTIONS).write_text("[\n\n]\n")
    infer_folder.Folder(tmp_path, _plan("ours.jpg"), overwrite=True).start()
    names = {path.name for path in pathlib.Path(tmp_path).iterdir()}
    assert names == {"of_training.jpg", infer_folder.DETECTIONS}


def test_links_and_paths_of_a_foreign_list_are_not_followed(tmp_path):
    out, mine = tmp_path / "out", tmp_path / "mine"
    mine.mkdir()
    out.mkdir()
    (mine / "000001.txt").touch()
    (mine / "x.txt").touch()
    (out / "labels").symlink_to(mine)
    (out / "street.jsonl").touch()
    entries = [
        {"picture": "a.jpg", "labels": "labels/x.txt"},
        {"video": "b.mp4", "frames": "../street.jsonl", "labels": "labels/../../mine"},
        {"video": "c.mp4", "frames": "c.jsonl", "labels": "/etc/passwd"},
    ]
    (out / infer_folder.DETECTIONS).write_text(json.dumps(entries))
    infer_folder.Folder(out, _plan("a.jpg"), overwrite=True).start()
    assert {x.name for x in mine.iterdir()} == {"000001.txt", "x.txt"}


def test_labels_of_an_earlier_inference_are_cleared_and_others_stay(tmp_path):
    labels = tmp_path / "labels"
    (labels / "street").mkdir(parents=True)
    for name in ("a.txt", "mine.txt", "street/000000.txt", "street/notes.txt"):
        (labels / name).touch()
    entries = [
        {"picture": "a.jpg", "labels": "labels/a.txt"},
        {"video": "street.mp4", "frames": "street.jsonl", "labels": "labels/street"},
    ]
    (tmp_path / infer_folder.DETECTIONS).write_text(json.dumps(entries))
    infer_folder.Folder(tmp_path, _plan("a.jpg"), overwrite=True).start()
    left = {x.relative_to(labels).as_posix() for x in labels.rglob("*.txt")}
    assert left == {"mine.txt", "street/notes.txt"}


def test_tables_of_others_are_never_replaced(tmp_path):
    (tmp_path / infer_folder.DETECTIONS).write_text("[]")
    (tmp_path / "detections.csv").write_text("my,own,table")
    plan = infer_folder.Plan({"elsewhere/a.jpg": "a.jpg"}, {}, ("detections.csv",))
    with pytest.raises(UserError, match=r"detections.csv, which tfdet-infer did not write"):
        infer_folder.Folder(tmp_path, plan, overwrite=True)
    (tmp_path / "detections.csv").write_text(infer_folder.CSV_HEAD + "\n")
    infer_folder.Folder(tmp_path, plan, overwrite=True).start()
    assert not (tmp_path / "detections.csv").exists()


def test_labels_of_others_are_never_replaced(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 1 1")
    plan = infer_folder.Plan.of(["elsewhere/a.jpg"], [], has_labels=True)
    with pytest.raises(UserError, match=r"labels/a.txt, which tfdet-infer did not write"):
        infer_folder.Folder(tmp_path, plan)
    (tmp_path / "labels" / "a.txt").unlink()
    (tmp_path / "labels").rmdir()
    (tmp_path / "labels").symlink_to(tmp_path.parent)
    with pytest.raises(UserError, match="labels is a link"):
        infer_folder.Folder(tmp_path, plan)


def test_a_folder_named_labels_is_a_folder_as_others(tmp_path):
    out = tmp_path / "labels"
    out.mkdir()
    (out / infer_folder.DETECTIONS).write_text(json.dumps([{"picture": "a.jpg"}]))
    (out / "a.jpg").touch()
    infer_folder.Folder(out, _plan("a.jpg"), overwrite=True).start()
    assert json.loads((out / infer_folder.DETECTIONS).read_text()) == []


def test_outputs_of_videos_have_names_of_their_own():
    plan = infer_folder.Plan.of(["a.jpg"], ["a.mp4", "b/a.mov", "camera:0"])
    assert [x.video for x in plan.videos.values()] == ["a.mp4", "a~2.mp4", "camera_0.mp4"]
    assert plan.videos["b/a.mov"].labels == "labels/a~2"
    assert {"a.jpg", "a.jsonl", "a~2.jsonl", "detections.json"} <= plan.names
