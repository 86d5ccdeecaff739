"""Files of NumPy, TensorFlow, and of what is none; the others have tests of their own."""

import zipfile

import numpy as np
import pytest
import tensorflow as tf

from tests.weights import torch_files
from tfdet.errors import UserError
from tfdet.weights import reading

VALUES = np.arange(6, dtype="float32").reshape(2, 3)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(save, tmp_path):
    turned = np.asfortranarray(VALUES)
    save(tmp_path / "x.npz", a=VALUES, turned=turned, other=VALUES.astype(">f8"))
    found = reading.open_weights(tmp_path / "x.npz").tensors
    assert list(found) == ["a", "turned", "other"]
    for tensor in found.values():
        np.testing.assert_array_equal(tensor, VALUES)


def test_npz_of_objects_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="array a is of type object, which is not read"):
        reading.open_weights(tmp_path / "x.npz")


@pytest.fixture
def prefix(tmp_path):
    step = tf.Variable(3, dtype=tf.int64)
    bfloat = tf.Variable(tf.cast(VALUES, tf.bfloat16))
    names = {"conv/kernel": tf.Variable(VALUES), "global_step": step, "half": bfloat}
    saver = tf.compat.v1.train.Saver(names)
    folder = tmp_path / "d0"
    folder.mkdir()
    return saver.save(None, str(folder / "model"), write_state=False)


def test_checkpoints_of_tensorflow_by_prefix_index_and_folder(prefix, tmp_path):
    for path in (prefix, f"{prefix}.index", tmp_path / "d0", f"{prefix}.data-00000-of-00001"):
        found = reading.open_weights(path)
        assert found.kind == "TensorFlow checkpoint"
        assert sorted(found.tensors) == ["conv/kernel", "global_step", "half"]
        np.testing.assert_array_equal(found.tensors["conv/kernel"], VALUES)
        assert found.tensors["half"].read().dtype == np.float32
        assert found.tensors["global_step"].shape == ()


def test_damaged_checkpoints_of_tensorflow(prefix, tmp_path):
    data = tmp_path / "d0" / "model.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[3] ^= 1
    data.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        for tensor in reading.open_weights(prefix).tensors.values():
            tensor.read()
    data.write_bytes(content[:5])
    with pytest.raises(UserError, match=r"claims|is damaged"):
        for tensor in reading.open_weights(prefix).tensors.values():
            tensor.read()
    data.unlink()
    with pytest.raises(UserError, match=r"are missing beside its \.index"):
        reading.open_weights(prefix)
    index = tmp_path / "d0" / "model.index"
    data.write_bytes(content)
    index.write_bytes(index.read_bytes()[:40])
    with pytest.raises(UserError, match="is damaged"):
        reading.open_weights(prefix)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page in place of the file"),
        (b"\x1f\x8b\x08\x00", "a gzip archive"),
        (b"\x93NUMPY\x01\x00", "one array of NumPy's"),
        (b"hello, this is text", r"a text\. Files of PyTorch"),
        (b"data:\n  train: x\n", "a text"),  # which begins as a pickle may
        ("classes: für".encode(), "a text"),
        (b"\xff\xd8\xff\xe0", "a picture"),
        (b"\x08\x01\x12\x00", "give the checkpoint that it was made from"),
        (b"\x1c\0\0\0TFL3\0\0", "a LiteRT model; give the checkpoint"),
        (b"\x01\x02\x03", "of a kind that is not known"),
        (b"PK\x03\x04" + b"\0" * 100, "the end of a zip archive is missing"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "is damaged"),
        (b"\x80\x02}q\x00.", "it is empty"),
    ],
)
def test_what_is_no_weights_file(content, says, tmp_path):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        reading.open_weights(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)
    assert "x.pth" in str(caught.value)


def test_other_zips(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(UserError, match="a zip archive, but none of weights"):
        reading.open_weights(tmp_path / "x.zip")


def test_paths_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"gone\.pth cannot be read \(No such file"):
        reading.open_weights(tmp_path / "gone.pth")
    with pytest.raises(UserError, match=r"a folder without a checkpoint .*; give a file$"):
        reading.open_weights(tmp_path)


def test_a_folder_that_is_no_checkpoint_offers_what_is_in_it(tmp_path):
    (tmp_path / "x.pth").touch()
    with pytest.raises(UserError, match=r"give a file, such as .*x\.pth$"):
        reading.open_weights(tmp_path)
    for step in (10, 20):
        (tmp_path / f"model-{step}.index").touch()
    with pytest.raises(UserError, match=r"with 2 checkpoints .* such as .*model-20\.index$"):
        reading.open_weights(tmp_path)


def test_shapes_by_name(tmp_path):
    torch_files.save({"w": VALUES}, tmp_path / "x.pth")
    assert reading.open_weights(tmp_path / "x.pth").shapes == {"w": (2, 3)}
