"""Weights files (Keras's .weights.h5): written whole, with a checksum, and finite when read."""

import contextlib
import errno
import hashlib
import io
import json
import os
import pathlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import h5py
import keras
import numpy as np
from keras.src.saving import saving_lib

from tfdet import documents, files
from tfdet.errors import UserError, first_line
from tfdet.weights import keras_files

_CHECKSUM = "tfdet_sha256"  # attribute of the file; readers that do not know it pass it over
_SETTINGS = "tfdet_settings"  # likewise: JSON of the configuration's keys that the weights need
_MOST_SETTINGS_LETTERS = 60_000  # of an attribute of HDF5 in its usual place
_SHOWN = 3


def save(
    model: keras.Model,
    path: str | pathlib.Path,
    settings: Mapping[str, Any] | None = None,
    only: Iterable[str] | None = None,
    half: bool = False,
) -> None:
    """Writes the model's weights, all or nothing, with a checksum of their values.

    HDF5 must not write to a disk that may be full: its library then fails again each time that the
    file is closed, and in the end breaks the process. So the file is made in memory.

    Args:
        model: a built model.
        path: of the file.
        settings: keys of the model's configuration that the weights need; kept in the file.
        only: the arrays to write, as `layout` names them; None for all.
        half: write float16 in the place of float32.
    """
    content = _to_memory(model)
    if only is not None or half:
        content = _copied(content, only, half)
    with h5py.File(content, "r+") as file:
        if settings is not None:
            text = json.dumps(dict(settings))
            if len(text) > _MOST_SETTINGS_LETTERS:
                raise UserError(f"the settings of {path} are too long to be kept in it")
            file.attrs[_SETTINGS] = text
        file.attrs[_CHECKSUM] = _checksum(file)
    files.write_bytes(path, content.getbuffer())


def _copied(content: io.BytesIO, only: Iterable[str] | None, half: bool) -> io.BytesIO:
    """Some of the arrays of a file, or all of them in half precision."""
    result = io.BytesIO()
    with h5py.File(content) as whole, h5py.File(result, "w") as copy:
        arrays = _arrays(whole)
        for name in arrays if only is None else only:
            array = arrays[name][()]
            is_float = half and array.dtype == np.float32
            copy[name] = array.astype(np.float16) if is_float else array
    return result


def is_ours(path: str | pathlib.Path) -> bool:
    """Whether a file was written by `save`; what is no file of HDF5 was not."""
    with contextlib.suppress(OSError), h5py.File(path) as file:
        return _CHECKSUM in file.attrs
    return False


def settings_of(path: str | pathlib.Path) -> dict[str, Any]:
    """The settings that `save` kept in a file; {} where there are none."""
    with _telling(path), h5py.File(path) as file:
        text = file.attrs.get(_SETTINGS, "{}")
    settings = documents.parse_json(str(text), f"the settings in {path}")
    if not isinstance(settings, dict):
        raise UserError(f"the settings in {path} are no mapping; use a copy that is whole")
    return settings


def layout(source: keras.Model | str | pathlib.Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of a model's weights file, or of a file, by their place in it."""
    if isinstance(source, keras.Model):
        with h5py.File(_to_memory(source)) as file:
            return {name: array.shape for name, array in _arrays(file).items()}
    with _telling(source), h5py.File(source) as file:
        return {name: array.shape for name, array in _arrays(file).items()}


def load_some(model: keras.Model, path: str | pathlib.Path, names: Iterable[str]) -> None:
    """Reads these arrays of a file into a model; all other variables stay as they are.

    Args:
        model: a built model.
        path: of a file that has these arrays, in the shapes of the model's.
        names: of arrays, as `layout` has them.
    """
    with _telling(path):
        _check(path)
    content = _to_memory(model)
    with h5py.File(content, "r+") as ours, h5py.File(path) as theirs:
        for name in names:
            ours[name][...] = theirs[name][()]
    store = saving_lib.H5IOStore(content)
    saving_lib._load_state(model, store, None, inner_path="", visited_saveables=set())
    store.close()


def load(model: keras.Model, path: str | pathlib.Path) -> None:
    """Reads a file into a model; a damaged or wrong one is a `UserError` with the reason.

    A file without a checksum, of another program, is taken if its values are finite.
    """
    with _telling(path):
        _check(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about each layer that is missing, ahead of the error
            model.load_weights(path)
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        reason = _difference(model, path) or first_line(error)
        raise UserError(f"{path} does not hold the weights of this model: {reason}") from None


def _to_memory(model: keras.Model) -> io.BytesIO:
    content = io.BytesIO()
    # What `model.save_weights` does, which takes paths only.
    store = saving_lib.H5IOStore(content, mode="w")
    saving_lib._save_state(
        model,
        weights_store=store,
        assets_store=None,
        inner_path="",
        visited_saveables=set(),
    )
    store.close()
    return content


@contextlib.contextmanager
def _telling(path: str | pathlib.Path) -> Iterator[None]:
    try:
        with open(path, "rb"):  # HDF5 would call a file that may not be read damaged
            pass
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR):
            reason = os.strerror(error.errno)
            raise UserError(f"weights {path} cannot be read ({reason})") from None
        raise UserError(
            f"{path} is damaged ({first_line(error)}); use a copy that is whole"
        ) from None
    except (ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"{path} is damaged ({first_line(error)}); use a copy that is whole"
        ) from None


def _check(path: str | pathlib.Path) -> None:
    """Refuses values that are not those that were written, and values that are no numbers."""
    with h5py.File(path) as file:
        arrays = _arrays(file)
        for name, array in arrays.items():
            try:
                keras_files.check_array(name, array, os.path.getsize(path))
            except UserError as error:
                raise UserError(f"{path} is refused: {error}") from None
        wanted = file.attrs.get(_CHECKSUM)
        if wanted is not None and wanted != _checksum(file):
            raise UserError(
                f"{path} is damaged: its values are not those that were written (their checksum "
                "differs); use a copy that is whole"
            )
        broken = [name for name, array in arrays.items() if not _is_finite(array)]
    if broken:
        raise UserError(
            f"{path} holds values that are not numbers (NaN or infinite) in {len(broken)} of "
            f"{len(arrays)} arrays, first {broken[0]}; it comes from a training that diverged, and "
            "its detections mean nothing. Take weights of an earlier epoch, or train with a lower "
            "train.learning_rate"
        )


def _arrays(file: h5py.File) -> dict[str, h5py.Dataset]:
    """All arrays of a file by their place in it, in an order of their own."""
    found = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    file.visititems(keep)
    return dict(sorted(found.items()))


def _checksum(file: h5py.File) -> str:
    digest = hashlib.sha256()
    for name, array in _arrays(file).items():
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array[()]).tobytes())
    return digest.hexdigest()


def _is_finite(array: h5py.Dataset) -> bool:
    # bfloat16 comes without a kind that NumPy knows.
    return array.dtype.kind not in "fc" or bool(np.isfinite(array[()]).all())


def _difference(model: keras.Model, path: str | pathlib.Path) -> str:
    """Which arrays of a file have another shape than the model's, or are not there."""
    with h5py.File(_to_memory(model)) as ours, h5py.File(path) as theirs:
        wanted = {name: array.shape for name, array in _arrays(ours).items()}
        found = {name: array.shape for name, array in _arrays(theirs).items()}
    other = [name for name in wanted if name in found and wanted[name] != found[name]]
    missing = [name for name in wanted if name not in found]
    parts = []
    if other:
        name = other[-1]  # of a head rather than of what comes before it
        parts.append(
            f"{len(other)} of {len(wanted)} arrays have another shape, such as {name}: "
            f"{found[name]} in the file, {wanted[name]} in the model (other classes or sizes?)"
        )
    if missing:
        some = ", ".join(missing[:_SHOWN])
        parts.append(f"{len(missing)} of {len(wanted)} arrays are not in it, such as {some}")
    return "; ".join(parts)
