"""PyTorch's files (.pth, .pt) and other pickles of arrays, read without PyTorch."""

import functools
import io
import math
import os
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, Literal

import numpy as np

from tfdet.errors import UserError
from tfdet.weights import zips
from tfdet.weights.lazy import SIZES, ByteOrder, LazyTensor, decode
from tfdet.weights.pickles import Global, Machine, Maker, Record, key_of

# The first value of a file of before PyTorch 1.6, which is a pickle, and the number after it.
_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_PROTOCOL = 1001
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "UntypedStorage": "uint8",
    "BoolStorage": "bool",
}
_DTYPES = {
    "double": "float64",
    "float": "float32",
    "half": "float16",
    "long": "int64",
    "int": "int32",
    "short": "int16",
    **{name: name for name in SIZES},
}
_MOST_SIDES = 32
_MOST_NUMPY_SIDES = 16


class Storage:
    """Values in a row, which tensors are cut from.

    Args:
        dtype: name of their type.
        count: how many there are.
        read: gives their bytes.
        byteorder: "<", or ">" where the file was written by a machine of the other kind.
    """

    def __init__(
        self, dtype: str, count: int, read: Callable[[], bytes], byteorder: ByteOrder = "<"
    ):
        self.dtype, self.count, self.byteorder = dtype, count, byteorder
        self._read = read

    def values(self, dtype: str) -> np.ndarray:
        """All of them."""
        return decode(self._read(), dtype, self.byteorder)


class _LastRead:
    """Reads parts of a file, and keeps the last: tensors that share one often follow each other."""

    def __init__(self, read: Callable[[Any], bytes]):
        self._read = read
        self._key: Any = None
        self._content = b""

    def __call__(self, key: Any) -> bytes:
        if key != self._key:
            self._content = b""  # before the next is read: not both at a time
            self._key, self._content = key, self._read(key)
        return self._content


def read_zip(path: str | os.PathLike[str]) -> Any:
    """What a file of PyTorch 1.6 or later holds, its tensors lazy."""
    archive = zips.open_zip(path)
    (pickled,) = [x for x in archive.namelist() if x.rpartition("/")[2] == "data.pkl"][:1]
    folder = pickled.removesuffix("data.pkl")
    content = io.BytesIO(zips.read_member(archive, pickled))
    byteorder: ByteOrder = "<"
    if f"{folder}byteorder" in archive.namelist():
        order = zips.read_member(archive, f"{folder}byteorder").strip()
        if order not in (b"little", b"big"):
            raise UserError(f"its byte order is {order[:20]!r}; expected little or big")
        byteorder = ">" if order == b"big" else "<"
    last = _LastRead(lambda name: zips.read_member(archive, name))

    def storage(name: Any) -> Storage:
        dtype, key, count, _ = _storage_facts(name)
        place = f"{folder}data/{key}"
        try:
            found = archive.getinfo(place).file_size
        except KeyError:
            raise UserError(f"the values of its storage {key!r} are missing") from None
        if found != count * SIZES[dtype]:
            raise UserError(
                f"its storage {key!r} claims {count} values of {dtype}, and has {found} bytes"
            )
        return Storage(dtype, count, lambda: last(place), byteorder)

    size = len(content.getbuffer())
    return Machine(content, size, makers(), storage, os.path.getsize(path)).load()


def is_stream(file: BinaryIO, size: int) -> bool:
    """Whether a pickle is the first of a file of before PyTorch 1.6."""
    file.seek(0)
    try:
        return Machine(file, min(size, 64), {}).load() == _STREAM_MAGIC
    except UserError:
        return False


def read_stream(path: str | os.PathLike[str]) -> Any:
    """What a file of before PyTorch 1.6 holds: pickles, and the storages behind them."""
    storages: dict[str, Storage] = {}
    places: dict[str, int] = {}

    def read(key: str) -> bytes:
        with open(path, "rb") as file:
            file.seek(places[key])
            return file.read(storages[key].count * SIZES[storages[key].dtype])

    last = _LastRead(read)

    def storage(name: Any) -> Storage | Global:
        if isinstance(name, tuple) and len(name) == 4 and name[0] == "module":
            return name[1]  # a class, of which the others are the source
        dtype, key, count, view = _storage_facts(name)
        whole = storages.setdefault(key, Storage(dtype, count, lambda: last(key)))
        if (whole.dtype, whole.count) != (dtype, count):
            raise UserError(f"its storage {key!r} has two sizes")
        return whole if view is None else _part_of(whole, view)

    with open(path, "rb") as file:
        return _stream(file, storage, storages, places)


def _stream(
    file: BinaryIO,
    storage: Callable[[Any], Any],
    storages: dict[str, Storage],
    places: dict[str, int],
) -> Any:
    """Reads the pickles; fills `places`, where in the file each of the storages begins."""
    size = file_size(file)
    machine = Machine(file, size, makers(), storage)
    if machine.load() != _STREAM_MAGIC or machine.load() != _STREAM_PROTOCOL:
        raise UserError("it is of a version of PyTorch that is not known")
    system = machine.load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UserError("it was written by a machine of another byte order")
    found = machine.load()
    keys = machine.load()
    if not isinstance(keys, list) or set(map(key_of, keys)) != set(storages):
        raise UserError("the list of its storages does not fit its tensors")
    for key in keys:
        storage_of = storages[key]
        (count,) = struct.unpack("<q", file.read(8).ljust(8, b"\0"))
        places[key] = file.tell()
        end = places[key] + storage_of.count * SIZES[storage_of.dtype]
        if count != storage_of.count or end > size:
            raise UserError(
                f"its storage {key!r} claims {storage_of.count} values of {storage_of.dtype}, "
                "more than the file has"
            )
        file.seek(end)
    return found


def read_plain(file: BinaryIO, size: int) -> Any:
    """What a pickle of NumPy's arrays holds."""
    file.seek(0)
    return Machine(file, size, makers()).load()


@functools.cache
def makers() -> dict[str, Maker]:
    """What is known by name, and what stands for it here."""
    known: dict[str, Maker] = {
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _typed_tensor,
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
        "torch._tensor._rebuild_from_type_v2": _of_type,
        "torch._tensor._rebuild_from_type": lambda function, kind, args, *_: _of_type(
            function, kind, args
        ),
        "torch.Size": lambda values=(): tuple(values),
        "collections.OrderedDict": _ordered,
        "collections.defaultdict": lambda *_: {},
        "_codecs.encode": _encoded,
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        known[f"{module}._reconstruct"] = lambda *_: _NumpyArray()
        known[f"{module}.scalar"] = _numpy_scalar
        known[f"{module.replace('multiarray', 'numeric')}._frombuffer"] = _numpy_from_buffer
    known["numpy.ndarray"] = lambda *_: _NumpyArray()
    known["numpy.dtype"] = _NumpyType
    for module in ("builtins", "__builtin__"):
        known[f"{module}.set"] = lambda values=(): {key_of(x) for x in values}
        known[f"{module}.frozenset"] = lambda values=(): frozenset(key_of(x) for x in values)
        known[f"{module}.bytearray"] = lambda values=b"", *_: _latin(values)
        known[f"{module}.complex"] = lambda *_: None
    return known


def _storage_facts(name: Any) -> tuple[str, str, int, Any]:
    """Type, key and length of a storage by its persistent id, and which part of it is meant."""
    try:
        kind, storage_type, key, _, count, *rest = name
        dtype = _STORAGES.get(storage_type.name.removeprefix("torch.").removeprefix("storage."))
        key = key if isinstance(key, str) else str(int(key))
    except (AttributeError, TypeError, ValueError):
        raise UserError("its pickle names a storage in a way that is not known") from None
    if kind != "storage" or dtype is None:
        raise UserError(f"its storage of type {storage_type.name} is not known")
    if not isinstance(count, int) or not 0 <= count < 2**48:
        raise UserError(f"its storage {key!r} claims {count!r} values")
    return dtype, key, count, rest[0] if rest else None


def _part_of(whole: Storage, view: Any) -> Storage:
    _, start, count = view
    if not 0 <= start <= start + count <= whole.count:
        raise UserError("a part of a storage lies outside of it")
    size = SIZES[whole.dtype]
    return Storage(whole.dtype, count, lambda: whole._read()[start * size : (start + count) * size])


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> LazyTensor:
    if not isinstance(storage, Storage):
        raise UserError("its pickle makes a tensor of what is no storage")
    return _cut(storage, storage.dtype, storage.count, offset, shape, strides)


def _typed_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> LazyTensor | Record:
    """Of a type that has no storage of its own: the storage counts bytes."""
    name = dtype.name.removeprefix("torch.") if isinstance(dtype, Global) else ""
    if name not in _DTYPES:
        return Record(f"torch.Tensor of {name}")
    if not isinstance(storage, Storage):
        raise UserError("its pickle makes a tensor of what is no storage")
    known, size = _DTYPES[name], SIZES[storage.dtype]
    return _cut(storage, known, storage.count * size // SIZES[known], offset, shape, strides)


def _cut(
    storage: Storage, dtype: str, count: int, offset: Any, shape: Any, strides: Any
) -> LazyTensor:
    """A tensor of a storage; one that would reach out of it, or repeat it, is refused."""
    sides, steps = tuple(shape), tuple(strides)
    numbers = (offset, *sides, *steps)
    if len(sides) != len(steps) or len(sides) > _MOST_SIDES:
        raise UserError("a tensor has another number of sides than of strides")
    if not all(isinstance(x, int) and 0 <= x < 2**48 for x in numbers):
        raise UserError(f"a tensor claims the shape {list(sides)[:8]}")
    size = math.prod(sides)
    last = offset + sum((n - 1) * step for n, step in zip(sides, steps, strict=True))
    if size > count or (size and last >= count):
        raise UserError(
            f"a tensor of shape {list(sides)} claims {size} values, more than its storage of "
            f"{count} has"
        )

    def load() -> np.ndarray:
        values = storage.values(dtype)[offset:]
        if not size:
            return np.empty(sides, values.dtype)
        steps_bytes = tuple(step * values.itemsize for step in steps)
        return np.lib.stride_tricks.as_strided(values, sides, steps_bytes, writeable=False)

    return LazyTensor(sides, dtype, load)


def _of_type(function: Any, kind: Any, args: Any, state: Any = None) -> Any:
    """A tensor of a class of its own, such as a parameter."""
    known = makers().get(function.name) if isinstance(function, Global) else None
    if known is None or known is _of_type or not isinstance(args, tuple):
        return Record(kind.name if isinstance(kind, Global) else "tensor")
    return known(*args)


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    return {key_of(key): value for key, value in pairs}


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes, as protocol 2 of Python 3 writes them."""
    if str(encoding) not in ("latin1", "latin-1"):
        raise UserError("its pickle has bytes in an encoding that is not known")
    return _latin(text)


def _latin(text: Any) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else bytes(memoryview(text))


class _NumpyType:
    """A type of NumPy's as a pickle says it."""

    def __init__(self, code: Any, *_: Any):
        self.code = code if isinstance(code, str) else code.decode("ascii")
        self.byteorder: ByteOrder = "<"

    def build_from(self, state: Any) -> None:
        if len(state) > 1 and state[1] in (">", b">"):
            self.byteorder = ">"

    @property
    def name(self) -> str:
        """By the name of `SIZES`, or "" for others: objects, text, records."""
        try:
            name = np.dtype(self.code).name if self.code[:1] in "fiub" else ""
        except TypeError:
            return ""
        return name if name in SIZES else ""


class _NumpyArray(LazyTensor):
    """An array of NumPy's, whose values stand in the pickle."""

    def __init__(self) -> None:
        super().__init__((), "float32", lambda: np.zeros((), np.float32))

    def build_from(self, state: Any) -> None:
        _, shape, kind, is_fortran, content = state
        sides = tuple(shape)
        if not isinstance(kind, _NumpyType) or not kind.name:
            self.dtype = ""  # of objects or text: no weights
            return
        content = _latin(content)
        if len(sides) > _MOST_NUMPY_SIDES or not all(
            isinstance(x, int) and 0 <= x < 2**48 for x in sides
        ):
            raise UserError("an array claims a shape that none has")
        if math.prod(sides) * SIZES[kind.name] != len(content):
            raise UserError(
                f"an array of shape {list(sides)} claims {math.prod(sides)} values of {kind.name}, "
                f"and has {len(content)} bytes"
            )
        order: Literal["F", "C"] = "F" if is_fortran else "C"
        self.shape, self.dtype = sides, kind.name
        self._load = lambda: decode(content, kind.name, kind.byteorder).reshape(sides, order=order)


def _numpy_from_buffer(content: Any, kind: Any, shape: Any, order: Any = "C") -> _NumpyArray:
    array = _NumpyArray()
    array.build_from((1, shape, kind, order == "F", content))
    return array


def _numpy_scalar(kind: Any, content: Any = None) -> Any:
    if not isinstance(kind, _NumpyType) or not kind.name or content is None:
        return None
    content = _latin(content)
    if len(content) != SIZES[kind.name]:
        raise UserError("a number has another size than its type")
    return decode(content, kind.name, kind.byteorder)[0].item()


def file_size(file: BinaryIO) -> int:
    """Bytes of an open file; it is at its beginning afterwards."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size
