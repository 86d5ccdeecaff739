import json

import numpy as np
import pytest

from tfdet.errors import UserError
from tfdet.weights import reading

VALUES = np.arange(6, dtype="float32").reshape(2, 3)


def write(path, header, content=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + content)
    return path


def entry(dtype="F32", shape=(2, 3), start=0, end=24):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def test_tensors_are_read_by_name(tmp_path):
    halves = (VALUES.view(np.uint32) >> 16).astype("<u2")
    header = {"__metadata__": {"format": "pt"}, "a": entry(), "b": entry("BF16", (6,), 24, 36)}
    path = write(tmp_path / "x.safetensors", header, VALUES.tobytes() + halves.tobytes())
    found = reading.open_weights(path).tensors
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["a"], VALUES)
    np.testing.assert_array_equal(found["b"], VALUES.ravel())


@pytest.mark.parametrize(
    ("header", "content", "says"),
    [
        ({"a": entry()}, b"x" * 23, "ends at byte 24, and the file has 23"),
        ({"a": entry(end=20)}, b"x" * 24, "claims 6 values of float32, and has 20 bytes"),
        ({"a": entry(shape=(10**6, 10**6), end=4 * 10**12)}, b"", "ends at byte 4000000000000"),
        ({"a": entry(), "b": entry(start=4, end=28)}, b"x" * 28, "lie in the same bytes"),
        ({"a": entry(start=-24, end=0)}, b"", "sizes of 'a' that no tensor has"),
        ({"a": entry(shape=(True, 6))}, b"x" * 24, "sizes of 'a' that no tensor has"),
        ({"a": entry("F8_E4M3", (24,))}, b"x" * 24, "of type 'F8_E4M3', which is not read"),
        ({"a": [1]}, b"", "not sound about 'a'"),
        (b'{"a": ', b"", "its header"),
        (b'{"a":' + b"[" * 100_000, b"", "its header"),
        (b"{\xff", b"", "its header is not UTF-8"),
        ({}, b"", "it holds no tensors"),
    ],
)
def test_damage_is_a_sentence(header, content, says, tmp_path):
    with pytest.raises(UserError, match=says):
        reading.open_weights(write(tmp_path / "x.safetensors", header, content))


def test_a_header_that_is_longer_than_the_file(tmp_path):
    path = write(tmp_path / "x.safetensors", {"a": entry()}, length=2**60)
    with pytest.raises(UserError, match=r"claims 1152921504606846976 bytes of a file of"):
        reading.open_weights(path)


def test_files_of_the_library(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    library.save_file({"a": VALUES, "b": VALUES.astype("float16")}, tmp_path / "x.safetensors")
    found = reading.open_weights(tmp_path / "x.safetensors").tensors
    np.testing.assert_array_equal(found["a"], VALUES)
    np.testing.assert_array_equal(found["b"], VALUES)
