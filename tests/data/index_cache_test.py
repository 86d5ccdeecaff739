import json
import os
import pathlib

import numpy as np
import pytest

from tfdet.data import coco, index_cache
from tfdet.data.coco import open_coco

LONG_AGO = 1_600_000_000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where indexes go in this test, those of small sets too."""
    monkeypatch.setattr(index_cache, "_LEAST_BYTES", 0)
    monkeypatch.setenv("TFDET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "indexes"


@pytest.fixture
def data(tmp_path, scenes):
    """A set with outlines, masks, odd ids and something wrong."""
    runs = {"size": [40, 60], "counts": [30, 70, 2300]}
    annotations = [
        {"id": 1, "image_id": 3, "category_id": 5, "bbox": [1, 2, 10, 10], "segmentation": runs},
        {"id": 2, "image_id": 24, "category_id": 15, "bbox": [1, 2, 99, 10], "iscrowd": 1},
        {"id": 3, "image_id": 24, "category_id": 15, "bbox": [1, 2, 9, 9]}
        | {"segmentation": [[1, 2, 9, 2, 9, 9], [3, 3, 4, 3, 4, 4, 3, 4]]},
        {"id": 3, "image_id": 24, "category_id": 15, "bbox": [1, 2, 9, 9]},
    ]
    scenes.write_coco(tmp_path, annotations=annotations)
    _age(tmp_path / "instances.json")
    return tmp_path


def _age(path: pathlib.Path, seconds: int = LONG_AGO) -> None:
    os.utime(path, (seconds, seconds))


def _open(data):
    return open_coco(str(data / "instances.json"), str(data / "images"))


def _refuse_to_read(monkeypatch):
    def read(*_):
        raise AssertionError("the annotations were read")

    monkeypatch.setattr(coco, "_read", read)


def _assert_same(a, b):
    for name in (*index_cache._COLUMNS, "name", "class_names", "class_ids"):
        x, y = getattr(a, name), getattr(b, name)
        assert type(x) is type(y), name
        np.testing.assert_array_equal(x, y, name)
        assert getattr(x, "dtype", None) == getattr(y, "dtype", None), name
    assert (a.outlines is None) == (b.outlines is None)
    for t in range(len(a.boxes) if a.outlines is not None else 0):
        assert a.outlines.segmentation(t) == b.outlines.segmentation(t)
    assert a.problems.as_dict() == b.problems.as_dict()


def test_the_second_opening_reads_the_index_alone(folder, data, monkeypatch):
    first = _open(data)
    (index,) = folder.iterdir()
    _refuse_to_read(monkeypatch)
    second = _open(data)
    _assert_same(first, second)
    assert second.problems.counts["duplicate_id"] == 1
    second.problems.add("truncated_image", "x")  # is not written anywhere
    assert "truncated_image" not in _open(data).problems.counts
    assert index.stat().st_mode & 0o077 == 0o044 or index.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("width", "changed"), [("9", LONG_AGO), ("20", LONG_AGO + 1)])
def test_annotations_of_another_size_or_time_are_read_again(folder, data, width, changed):
    _open(data)
    path = data / "instances.json"
    path.write_text(path.read_text().replace("99", width))
    _age(path, changed)
    second = _open(data)
    assert second.boxes[1].tolist() == [1, 2, 1 + int(width), 12]
    _assert_same(second, _open(data))


def test_an_image_that_is_gone_is_noticed(folder, data):
    first = _open(data)
    (data / "images" / "a1.jpg").rename(data / "a1.jpg")
    assert _open(data).problems.counts["missing_image"] == 1
    (data / "a1.jpg").rename(data / "images" / "a1.jpg")
    _assert_same(first, _open(data))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-40],
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"PK" + content[:500][2:],
        lambda content: content[:600] + bytes([content[600] ^ 1]) + content[601:],
        lambda content: content[:-700] + bytes([content[-700] ^ 255]) + content[-699:],
    ],
)
def test_a_damaged_index_is_noticed_and_written_again(folder, data, damage, monkeypatch):
    first = _open(data)
    (index,) = folder.iterdir()
    content = index.read_bytes()
    index.write_bytes(damage(content))
    _assert_same(first, _open(data))
    assert index.read_bytes() == content
    _refuse_to_read(monkeypatch)
    _assert_same(first, _open(data))


def test_links_and_files_of_others_are_not_read(folder, data, monkeypatch):
    _open(data)
    (index,) = folder.iterdir()
    index.rename(folder / "other")
    index.symlink_to(folder / "other")
    before = (folder / "other").read_bytes()
    _open(data)
    assert not index.is_symlink() and (folder / "other").read_bytes() == before
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert index_cache._load(index, {}) is None


def test_sets_that_follow_from_more_than_their_sources_have_no_index(folder, data):
    (data / "images" / "a1.jpg").unlink()
    _open(data)
    path = data / "instances.json"
    content = json.loads(path.read_text())
    content["images"] = [image | {"height": None} for image in content["images"][:2]]
    path.write_text(json.dumps(content))
    _age(path)
    _open(data)
    assert not folder.exists()


def test_files_that_were_just_written_have_no_index(folder, data):
    os.utime(data / "instances.json")
    _open(data)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_done_without(folder, data, monkeypatch):
    folder.parent.write_text("a file")
    first = _open(data)
    monkeypatch.setenv("TFDET_CACHE", str(folder.parent.parent / "another"))
    _assert_same(first, _open(data))


def test_small_sets_have_no_index(data, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDET_CACHE", str(tmp_path / "cache"))
    _open(data)
    assert not (tmp_path / "cache").exists()
