"""The native PackOp in TensorFlow: finds and loads the library, calls it, registers the gradients.

Nothing is loaded before the first call. The environment variable TFDET_PACK decides:

    (not set)   native where the library loads, else portable with one warning
    portable    portable, without a warning
    native      native, or an error

TFDET_PACK_LIBRARY names another file than the one that installing tfdet has built. No other
library is ever loaded, above all none that lies in the folder of a model: loading one is running
whatever is in it.
"""

import contextlib
import contextvars
import functools
import os
import pathlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops.pack_layout import Layout
from tfdet.tensors import Tensor

DTYPES = ("float32", "float16", "bfloat16")

OP = "TfdetPack"
LIBRARY = "libtfdet_pack.so"

_FOLDER = pathlib.Path(__file__).parent
_CUDA = "libtfdet_pack_cuda.so"
_is_allowed = contextvars.ContextVar("tfdet_native_pack_is_allowed", default=True)


@contextlib.contextmanager
def allowed(is_allowed: bool) -> Iterator[None]:
    """Whether the native op may be used inside the block, also by functions traced in it."""
    token = _is_allowed.set(is_allowed)
    try:
        yield
    finally:
        _is_allowed.reset(token)


def is_available() -> bool:
    """True where `pack` and `unpack` may be called; loads the library at the first call."""
    wish = os.environ.get("TFDET_PACK", "auto")
    if wish not in ("auto", "portable", "native"):
        raise ValueError(f"TFDET_PACK is portable, native or not set, got {wish!r}")
    if wish == "portable" or not _is_allowed.get():
        return False
    if wish == "native":
        _load()
        return True
    return _is_loaded()


def library_path() -> pathlib.Path:
    """The CPU library: what a program without tfdet gives to `tf.load_op_library`."""
    return pathlib.Path(os.environ.get("TFDET_PACK_LIBRARY") or _FOLDER / LIBRARY)


def pack(maps: Sequence[Tensor], layout: Layout) -> tf.Tensor:
    """`tfdet.ops.pack.pack` by the native op."""
    size = _size(layout.height, layout.width)
    return _load().tfdet_pack(maps=maps, size=size, corners=_corners(layout))


def unpack(packed: Tensor, layout: Layout) -> list[tf.Tensor]:
    """`tfdet.ops.pack.unpack` by the native op."""
    sizes = [_size(*size) for size in layout.sizes]
    return _load().tfdet_unpack(packed=packed, sizes=sizes, corners=_corners(layout))


def check() -> None:
    """Raises a UserError that says why, where the library cannot be loaded."""
    try:
        _load()
    except ImportError as error:
        raise UserError(str(error)) from None


@functools.cache
def _load() -> Any:
    """The library's functions; an ImportError that says why there are none."""
    path = library_path()
    if not path.is_file():
        raise ImportError(
            f"{path} is not there: no C++ compiler was found when tfdet was installed, or it "
            "failed. Type `pip install -v --force-reinstall --no-deps .` in tfdet's source folder "
            "and read the compiler's output"
        )
    try:
        library = tf.load_op_library(str(path))
    except tf.errors.OpError as error:
        raise ImportError(
            f"{path} cannot be loaded: {error.message}. Type `pip install --force-reinstall "
            "--no-deps .` in tfdet's source folder to build it for this machine"
        ) from error
    if not hasattr(library, "tfdet_pack"):
        raise ImportError(
            f"{path} brings nothing new: another copy of the op was loaded before. Import tfdet "
            "and pack something before `tf.load_op_library`"
        )
    if tf.config.list_physical_devices("GPU"):
        _load_cuda()
    return library


def _load_cuda() -> None:
    """Adds the GPU kernels; without them every map would travel to the CPU and back."""
    path = library_path().with_name(_CUDA)
    how = (
        "type `TFDET_CUDA=1 pip install --no-build-isolation --no-deps .` in tfdet's source folder"
    )
    if not path.is_file():
        raise ImportError(f"{path} is not there, and this machine has a GPU: {how}")
    try:
        tf.load_op_library(str(path))
    except tf.errors.OpError as error:
        raise ImportError(
            f"{path} serves one TensorFlow version and cannot be loaded: {error.message}; {how}"
        ) from error


@functools.cache
def _is_loaded() -> bool:
    try:
        _load()
    except ImportError as error:
        warnings.warn(
            "tfdet packs with its portable op, which computes the same values more slowly. "
            f"{error}; or set TFDET_PACK=portable to stay with it without this warning.",
            RuntimeWarning,
            stacklevel=4,
        )
        return False
    return True


def _corners(layout: Layout) -> list[int]:
    return [side for box in layout.boxes for side in box[:2]]


def _size(height: Tensor, width: Tensor) -> tf.Tensor:
    """A size as the op takes it: the shape of a tensor without elements."""
    return tf.zeros((height, width, 0), tf.int8)


def _size_of(x: tf.Tensor) -> tf.Tensor:
    if None in x.shape[1:3]:
        height, width = tf.unstack(tf.shape(x)[1:3])
        return _size(height, width)
    return _size(*x.shape[1:3])


@tf.RegisterGradient(OP)
def _pack_gradient(op: Any, gradient: tf.Tensor) -> list[tf.Tensor | None]:
    maps = op.inputs[:-1]
    sizes = [_size_of(x) for x in maps]
    corners = op.get_attr("corners")
    return [*_load().tfdet_unpack(packed=gradient, sizes=sizes, corners=corners), None]


@tf.RegisterGradient("TfdetUnpack")
def _unpack_gradient(op: Any, *gradients: tf.Tensor) -> list[tf.Tensor | None]:
    packed, *sizes = op.inputs
    corners = op.get_attr("corners")
    gradient = _load().tfdet_pack(maps=gradients, size=_size_of(packed), corners=corners)
    return [gradient, *[None for _ in sizes]]
