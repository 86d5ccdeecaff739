"""Files of PyTorch's, written without PyTorch: what tests and damaged files are made of.

save({"conv.weight": np.ones((2, 3, 1, 1), "float32")}, path)
save({"model": Call(Name("models.yolo", "Model"), (), module({...}))}, path)
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


class Name(NamedTuple):
    """A class or function by name."""

    module: str
    name: str


class Call:
    """A call as a pickle writes it: of a name with arguments; `state` is given to the result."""

    def __init__(self, function: Any, args: tuple, state: Any = None):
        self.function, self.args, self.state = function, args, state


class Persistent(NamedTuple):
    """A persistent id."""

    name: tuple


class BFloat16(NamedTuple):
    """The values of a bfloat16 tensor, float32."""

    values: np.ndarray


class Pickler(pickle._Pickler):
    """Writes `Name`, `Call` and `Persistent` as what they stand for."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def _name(self, value: Name) -> None:
        self.write(b"c" + f"{value.module}\n{value.name}\n".encode())

    def _call(self, value: Call) -> None:
        self.save(value.function)
        self.save(value.args)
        self.write(pickle.REDUCE)
        if value.state is not None:
            self.save(value.state)
            self.write(pickle.BUILD)

    def _persistent(self, value: Persistent) -> None:
        self.save(value.name)
        self.write(pickle.BINPERSID)

    dispatch |= {Name: _name, Call: _call, Persistent: _persistent}


def dumps(value: Any, protocol: int = 2) -> bytes:
    """A pickle."""
    stream = io.BytesIO()
    Pickler(stream, protocol).dump(value)
    return stream.getvalue()


ORDERED = Name("collections", "OrderedDict")
REBUILD = Name("torch._utils", "_rebuild_tensor_v2")


class Storages:
    """Storages of the tensors that are made with it, by key."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.counts: dict[str, int] = {}

    def tensor(self, array: np.ndarray | BFloat16, is_stream: bool = False) -> Call:
        """The call that rebuilds a tensor, whose values become a storage."""
        key = str(len(self.content))
        if isinstance(array, BFloat16):
            values, dtype = array.values.astype(np.float32), "bfloat16"
            content = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
        else:
            values, dtype = np.asarray(array), np.asarray(array).dtype.name
            content = np.ascontiguousarray(values).tobytes()
        self.content[key], self.counts[key] = content, values.size
        return rebuilt(key, values.shape, values.size, dtype, is_stream)


def rebuilt(
    key: str,
    shape: tuple[int, ...],
    count: int,
    dtype: str = "float32",
    is_stream: bool = False,
    offset: int = 0,
) -> Call:
    """The call that rebuilds a tensor of any claimed shape from a storage."""
    strides = tuple(int(np.prod(shape[i + 1 :], dtype=object)) for i in range(len(shape)))
    storage = ("storage", Name("torch", _STORAGES[dtype]), key, "cpu", count)
    name = Persistent((*storage, None) if is_stream else storage)
    return Call(REBUILD, (name, offset, shape, strides, False, Call(ORDERED, ())))


def lazily(value: Any, storages: Storages, is_stream: bool = False) -> Any:
    """`value` with its arrays as tensors."""
    if isinstance(value, (np.ndarray, BFloat16)):
        return storages.tensor(value, is_stream)
    if isinstance(value, Call):
        return Call(value.function, value.args, lazily(value.state, storages, is_stream))
    if isinstance(value, dict):
        return {key: lazily(item, storages, is_stream) for key, item in value.items()}
    return value


def save(value: Any, path: Any, folder: str = "archive") -> None:
    """Writes the zip form."""
    storages = Storages()
    content = dumps(lazily(value, storages))
    write_zip(path, content, storages.content, folder)


def write_zip(
    path: Any, pickled: bytes, storages: Mapping[str, bytes], folder: str = "archive", **kwargs: Any
) -> None:
    """Writes the zip form from its parts."""
    with zipfile.ZipFile(path, "w", **kwargs) as archive:
        archive.writestr(f"{folder}/data.pkl", pickled)
        archive.writestr(f"{folder}/byteorder", "little")
        for key, content in storages.items():
            archive.writestr(f"{folder}/data/{key}", content)
        archive.writestr(f"{folder}/version", "3\n")


def save_stream(value: Any, path: Any) -> None:
    """Writes the form of before PyTorch 1.6."""
    storages = Storages()
    pickled = dumps(lazily(value, storages, is_stream=True))
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    with open(path, "wb") as file:
        for head in (dumps(MAGIC), dumps(1001), dumps(system), pickled):
            file.write(head)
        file.write(dumps(list(storages.content)))
        for key, content in storages.content.items():
            file.write(struct.pack("<q", storages.counts[key]) + content)


def module(
    parameters: Mapping[str, Any] = {},
    buffers: Mapping[str, Any] = {},
    modules: Mapping[str, Any] = {},
    name: Name = Name("models.common", "Conv"),  # noqa: B008
    **attributes: Any,
) -> Call:
    """A pickled module."""
    inside = {"training": False, "_parameters": dict(parameters), "_buffers": dict(buffers)}
    inside |= {"_modules": dict(modules), **attributes}
    return Call(name, (), inside)
