"""TensorFlow's file system in memory stands for gs:// and s3://."""

import os

import pytest
import tensorflow as tf

from tfdet.data import storage
from tfdet.data.convert import convert
from tfdet.data.sources import open_dataset
from tfdet.errors import UserError


@pytest.fixture(params=["", "ram://"], ids=["local", "remote"])
def folder(request, tmp_path):
    return f"{request.param}{tmp_path}"


@pytest.fixture
def file(folder):
    path = f"{folder}/f.bin"
    with tf.io.gfile.GFile(path, "wb") as f:
        f.write(bytes(range(100)))
    return path


def test_bytes_are_read_from_any_place(file):
    assert storage.stamp(file)[0] == 100
    with storage.open_to_read(file) as f:
        assert f.read(2) == b"\0\1"
        f.seek(50)
        assert f.read(2) == b"23" and f.tell() == 52
        f.seek(4, os.SEEK_CUR)
        assert f.read(1) == b"8"
        assert f.read(1000) == bytes(range(57, 100)) and f.read(1) == b""


def test_files_are_found(folder, file):
    assert storage.matching(f"{folder}/*.bin") == [file]
    assert storage.matching(f"{folder}/nothing*") == []
    assert storage.is_file(file) and not storage.is_file(f"{folder}/x.bin")


def test_a_file_that_is_absent_is_an_os_error(folder):
    for use in (storage.stamp, lambda path: storage.open_to_read(path).read(1)):
        with pytest.raises(OSError, match="No such file"):
            use(f"{folder}/x.bin")


def test_texts_are_read_from_any_place(folder):
    for content, problem in ((b"\xef\xbb\xbfcat", None), (b"\xff", "not a text file in UTF-8")):
        path = f"{folder}/t.txt"
        with tf.io.gfile.GFile(path, "wb") as f:
            f.write(content)
        if problem is None:
            assert storage.read_text(path, "labels") == "cat"
        else:
            with pytest.raises(UserError, match=problem):
                storage.read_text(path, "labels")


def test_remote_records_are_those_of_the_disk(tmp_path):
    convert(open_dataset("shapes:val:6"), str(tmp_path / "a"), 2)
    place = f"ram://{tmp_path}"
    for path in tmp_path.iterdir():
        tf.io.gfile.copy(str(path), f"{place}/{path.name}")
    local = open_dataset(f"tfrecord:{tmp_path}/a-*")
    remote = open_dataset(f"tfrecord:{place}/a-*:{place}/a-labels.json")
    assert remote.class_names == local.class_names
    assert remote.boxes.tolist() == local.boxes.tolist()
    assert [remote.encoded(i) for i in range(6)] == [local.encoded(i) for i in range(6)]
    assert open_dataset(f"tfrecord:{place}/a-*").class_ids == local.class_ids


def test_a_place_that_tensorflow_does_not_know_is_a_sentence():
    with pytest.raises(UserError, match=r"nowhere://x/\* cannot be read: .*not implemented"):
        open_dataset("tfrecord:nowhere://x/*")
