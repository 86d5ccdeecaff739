"""Weights files of all kinds as tensors by name; the content shows which kind a file is.

Nothing in a file is executed, and no file makes this program take much more memory than it has
bytes itself. What cannot be read is a `UserError` of one sentence.
"""

import codecs
import contextlib
import glob
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tfdet.errors import UserError, first_line
from tfdet.weights import keras_files, pytorch, safetensors, state_dict, zips
from tfdet.weights.lazy import SIZES, LazyTensor

_ARRAYS_RATIO = 4.0  # of a packed .npz, unpacked; weights hardly can be packed
_HEADER_BYTES = 10_000  # of an array in an .npz
_PICKLES = (b"\x80", b"(", b"}", b"]", b"c", b"d")  # how they begin
# What people have in the place of weights, by how it begins.
_OTHERS = {
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself with `git lfs pull`",
    b"<": "a page of HTML or XML; the download went to a web page in place of the file",
    b"{": "a JSON text",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"\xfd7zXZ": "an xz archive; unpack it first",
    b"\x93NUMPY": "one array of NumPy's (.npy); an .npz with names is read",
    b"\x7fELF": "a program",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"\x89PNG": "a picture (PNG)",
    b"\x08": "a graph of ONNX or of a SavedModel; give the checkpoint that it was made from",
}
_LITERT = "a LiteRT model; give the checkpoint that it was made from"
_ENDINGS = (".pth", ".pt", ".pkl", ".safetensors", ".npz", ".h5", ".keras")


class Weights(NamedTuple):
    """What a file of weights holds.

    Attributes:
        tensors: by name.
        kind: of file, for people: "PyTorch (zip)".
        part: dotted keys under which the tensors were found; "" where there is no wrapper.
    """

    tensors: dict[str, LazyTensor]
    kind: str
    part: str = ""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}


def open_weights(path: str | os.PathLike[str]) -> Weights:
    """The tensors of a weights file by name; their values are read when they are asked for.

    Args:
        path: a file of PyTorch (.pth, .pt, of any version), a pickle of NumPy arrays (.pkl), a
            .safetensors, .npz, .h5, .weights.h5 or .keras file; or a checkpoint of TensorFlow: its
            prefix, its .index file or a folder with one. Detectors and training states around the
            weights are taken off.
    """
    path = os.fspath(path)
    with _telling(path):
        prefix = _tensorflow_prefix(path)
        if prefix:
            return Weights(_tensorflow(prefix), "TensorFlow checkpoint")
        return _of_file(path)


@contextlib.contextmanager
def _telling(path: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{path} cannot be read as weights: {error}") from None
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, OSError) and error.strerror:  # others are of HDF5 and NumPy
            raise UserError(f"weights {path} cannot be read ({error.strerror})") from None
        raise UserError(
            f"{path} is damaged ({first_line(error)}); use a copy that is whole"
        ) from None


def _of_file(path: str) -> Weights:
    with open(path, "rb") as file:
        size = pytorch.file_size(file)
        start = file.read(16)
        is_zip, is_hdf5 = start.startswith(b"PK\3\4"), keras_files.is_hdf5(file)
        if not size:
            raise UserError("it is empty")
        if not is_zip and not is_hdf5 and start[8:].lstrip()[:1] != b"{":
            if start[:1] not in _PICKLES:
                raise UserError(_not_weights(file))
            return _some(_of_pickle(path, file, size))
    if is_zip:
        return _some(_of_zip(path))
    if is_hdf5:
        return _some(Weights(keras_files.read(path), "Keras (HDF5)"))
    return _some(Weights(safetensors.read(path), "safetensors"))


def _some(weights: Weights) -> Weights:
    if not weights.tensors:
        raise UserError("it holds no tensors")
    return weights


def _of_zip(path: str) -> Weights:
    names = zips.open_zip(path, _ARRAYS_RATIO).namelist()
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        found = state_dict.find(pytorch.read_zip(path))
        return Weights(found.tensors, "PyTorch (zip)", found.part)
    archive = zips.open_zip(path, _ARRAYS_RATIO)
    if keras_files.MEMBER in names:
        return Weights(keras_files.read_member(archive), "Keras (.keras)")
    if names and all(name.endswith(".npy") for name in names):
        return Weights(_arrays(archive), "NumPy (.npz)")
    raise UserError(
        "it is a zip archive, but none of weights: a file of PyTorch has data.pkl in it, one of "
        f"Keras {keras_files.MEMBER}, and one of NumPy only .npy; if it was packed, unpack it"
    )


def _of_pickle(path: str, file: BinaryIO, size: int) -> Weights:
    if pytorch.is_stream(file, size):
        found = state_dict.find(pytorch.read_stream(path))
        return Weights(found.tensors, "PyTorch (stream, before 1.6)", found.part)
    try:
        content = pytorch.read_plain(file, size)
    except UserError:
        if _is_text(file):  # which may begin as old pickles do: "data:", "classes:"
            raise UserError(_not_weights(file)) from None
        raise
    found = state_dict.find(content)
    return Weights(found.tensors, "pickle of NumPy arrays", found.part)


def _is_text(file: BinaryIO) -> bool:
    file.seek(0)
    start = file.read(512)
    try:
        # A letter at the end may be cut.
        text, _ = codecs.utf_8_decode(start, "strict", False)
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)


def _not_weights(file: BinaryIO) -> str:
    file.seek(0)
    start = file.read(512)
    known = [what for begin, what in _OTHERS.items() if start.lstrip().startswith(begin)]
    if start[257:262] == b"ustar":
        known = ["a tar archive; unpack it first"]
    if start[4:8] == b"TFL3":
        known = [_LITERT]
    if not known and _is_text(file):
        known = ["a text"]
    what = known[0] if known else "of a kind that is not known"
    return (
        f"it is {what}. Files of PyTorch, safetensors, .npz, .h5, .keras and checkpoints of "
        "TensorFlow are read"
    )


# NumPy


def _arrays(archive: Any) -> dict[str, LazyTensor]:
    tensors = {}
    for member in archive.infolist():
        with archive.open(member) as stream:
            try:
                version = np.lib.format.read_magic(stream)
                read_header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, is_fortran, kind = read_header(stream, _HEADER_BYTES)
            except (ValueError, KeyError, EOFError, TypeError) as error:
                raise UserError(
                    f"{member.filename} in it is no array ({first_line(error)})"
                ) from None
            start = stream.tell()
        name = member.filename.removesuffix(".npy")
        dtype = kind.name
        if dtype not in SIZES:
            raise UserError(f"array {name} is of type {kind}, which is not read")
        if math.prod(shape) * SIZES[dtype] != member.file_size - start:
            raise UserError(
                f"array {name} of shape {list(shape)} claims {math.prod(shape)} values of {dtype}, "
                f"and has {member.file_size - start} bytes"
            )
        tensors[name] = _array(archive, member.filename, start, shape, kind, is_fortran)
    return tensors


def _array(
    archive: Any, member: str, start: int, shape: tuple[int, ...], kind: Any, is_fortran: bool
) -> LazyTensor:
    def load() -> np.ndarray:
        values = np.frombuffer(memoryview(zips.read_member(archive, member))[start:], kind)
        native = values.astype(kind.newbyteorder("="), copy=False)
        return native.reshape(shape, order="F" if is_fortran else "C")

    return LazyTensor(tuple(shape), kind.name, load)


# TensorFlow


def _tensorflow_prefix(path: str) -> str:
    """The prefix of a checkpoint of TensorFlow that `path` stands for; "" if it is none."""
    if os.path.isdir(path):
        found = sorted(x.name for x in pathlib.Path(path).glob("*.index"))
        if len(found) != 1:
            raise UserError(_folder(path, found))
        return os.path.join(path, found[0].removesuffix(".index"))
    prefix = path.removesuffix(".index").partition(".data-0")[0]
    return prefix if os.path.isfile(f"{prefix}.index") else ""


def _folder(path: str, checkpoints: list[str]) -> str:
    """Why a folder is not taken, and what to give in its place."""
    if checkpoints:
        return (
            f"it is a folder with {len(checkpoints)} checkpoints of TensorFlow; give one of them, "
            f"such as {os.path.join(path, checkpoints[-1])}"
        )
    files = sorted(name for name in os.listdir(path) if name.endswith(_ENDINGS))
    such = f", such as {os.path.join(path, files[0])}" if files else ""
    return f"it is a folder without a checkpoint of TensorFlow (*.index); give a file{such}"


def _tensorflow(prefix: str) -> dict[str, LazyTensor]:
    import tensorflow as tf

    folder, start = os.path.split(prefix)
    parts = pathlib.Path(folder or ".").glob(f"{glob.escape(start)}.data-*")
    size = sum(part.stat().st_size for part in parts)
    if not size:
        raise UserError("the values (.data-00000-of-00001) are missing beside its .index")
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes, kinds = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise UserError(f"it is damaged ({first_line(error)})") from None
    tensors = {}
    for name in sorted(shapes):
        shape, dtype = tuple(shapes[name]), kinds[name].name
        if dtype not in SIZES:  # texts of what was saved
            continue
        if math.prod(shape) * SIZES[dtype] > size:
            raise UserError(
                f"tensor {name} of shape {list(shape)} claims {math.prod(shape)} values, more than "
                "the file has"
            )
        tensors[name] = _variable(reader, name, shape, dtype)
    return tensors


def _variable(reader: Any, name: str, shape: tuple[int, ...], dtype: str) -> LazyTensor:
    def load() -> np.ndarray:
        import tensorflow as tf

        try:
            values = reader.get_tensor(name)
        except (tf.errors.OpError, RuntimeError) as error:
            raise UserError(f"{name} is damaged ({first_line(error)})") from None
        return values.astype(np.float32) if dtype == "bfloat16" else values

    return LazyTensor(shape, dtype, load)
