"""Keras's files (.h5, .weights.h5, .keras): arrays by the names of layers and variables."""

import io
import os
import zipfile
from typing import Any, BinaryIO

import h5py
import numpy as np

from tfdet.errors import UserError
from tfdet.weights import zips
from tfdet.weights.lazy import SIZES, LazyTensor

_LARGEST_RATIO = 16  # of an array to its file, which may be compressed; weights hardly can be
MEMBER = "model.weights.h5"  # of a `.keras` archive
_WHOLE_MODEL = "model_weights"  # the group of the weights in a file of a whole model
_LAYERS = "layer_names"


def read(path: str | os.PathLike[str]) -> dict[str, LazyTensor]:
    """The arrays of an .h5 file by name.

    Of the layout of `keras.applications` the names are "layer/variable", such as
    "conv1_conv/kernel"; of `.weights.h5` they are the places in the file.
    """
    with h5py.File(path) as file:
        return _found(file, os.path.getsize(path), lambda: h5py.File(path))


def read_member(archive: zipfile.ZipFile) -> dict[str, LazyTensor]:
    """The arrays of a `.keras` archive, whose weights are read into memory."""
    content = zips.read_member(archive, MEMBER)
    with h5py.File(io.BytesIO(content)) as file:
        return _found(file, len(content), lambda: h5py.File(io.BytesIO(content)))


def is_hdf5(file: BinaryIO) -> bool:
    """Whether a file begins as those of HDF5 do."""
    file.seek(0)
    return file.read(8) == b"\x89HDF\r\n\x1a\n"


def check_array(name: str, array: h5py.Dataset, file_bytes: int) -> None:
    """Refuses an array, before it is read, that is of another file or would fill the memory."""
    if array.external or array.is_virtual:
        raise UserError(f"{name} lies in another file")
    if array.nbytes > _LARGEST_RATIO * file_bytes:
        raise UserError(f"{name} claims {array.size} values, more than the file can hold")


def _found(file: h5py.File, size: int, reopen: Any) -> dict[str, LazyTensor]:
    # A link may lead to another file.
    is_whole = (
        isinstance(file.get(_WHOLE_MODEL, getlink=True), h5py.HardLink)
        and file.get(_WHOLE_MODEL, getclass=True) is h5py.Group
    )
    root = file[_WHOLE_MODEL] if is_whole else file
    by_layer = any(name.startswith(_LAYERS) for name in root.attrs)
    found: dict[str, LazyTensor] = {}

    def keep(place: str, item: Any) -> None:
        # Links to other files are not visited.
        if not isinstance(item, h5py.Dataset) or item.dtype.name not in SIZES:
            return
        name = _layer_and_variable(place) if by_layer else place
        check_array(name, item, size)
        if name in found:
            raise UserError(f"it has two arrays named {name}")
        found[name] = _tensor(item, reopen)

    root.visititems(keep)
    return found


def _layer_and_variable(place: str) -> str:
    layer, _, rest = place.partition("/")
    return f"{layer}/{rest.rpartition('/')[2].partition(':')[0]}"


def _tensor(item: h5py.Dataset, reopen: Any) -> LazyTensor:
    place = item.name

    def load() -> np.ndarray:
        with reopen() as file:
            return np.asarray(file[place][()])

    return LazyTensor(tuple(item.shape), item.dtype.name, load)
