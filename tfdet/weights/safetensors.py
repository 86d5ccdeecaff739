"""Files of the safetensors format: eight bytes of a length, a JSON header, then the values."""

import itertools
import math
import os
from typing import Any

from tfdet import documents
from tfdet.errors import UserError
from tfdet.printable import shown
from tfdet.weights.lazy import SIZES, LazyTensor, decode

_MOST_HEADER_BYTES = 16 << 20
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def read(path: str | os.PathLike[str]) -> dict[str, LazyTensor]:
    """The tensors of a file by name, each read when it is asked for."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise UserError(f"its header claims {length} bytes of a file of {size}; is it cut?")
        if length > _MOST_HEADER_BYTES:
            raise UserError(f"its header of {length} bytes is too long for a file of weights")
        try:
            text = file.read(length).decode("utf-8")
        except UnicodeDecodeError:
            raise UserError("its header is not UTF-8") from None
    header = documents.parse_json(text, "its header")
    if not isinstance(header, dict):
        raise UserError("its header is no mapping of tensors")
    header.pop("__metadata__", None)
    tensors, spans = {}, []
    for name, facts in header.items():
        dtype, shape, start, end = _facts(name, facts)
        if end > size - 8 - length:
            raise UserError(
                f"tensor {shown(name)} ends at byte {end}, and the file has {size - 8 - length} "
                "bytes of values; is it cut?"
            )
        spans.append((start, end))
        tensors[name] = _tensor(path, dtype, shape, 8 + length + start)
    spans.sort()
    if any(first[1] > second[0] for first, second in itertools.pairwise(spans)):
        raise UserError("two of its tensors lie in the same bytes")
    return tensors


def _facts(name: str, facts: Any) -> tuple[str, tuple[int, ...], int, int]:
    try:
        dtype, shape, (start, end) = facts["dtype"], facts["shape"], facts["data_offsets"]
        numbers = (*shape, start, end)
    except (KeyError, TypeError, ValueError):
        raise UserError(f"its header is not sound about {shown(name)}") from None
    if dtype not in _DTYPES:
        raise UserError(f"tensor {shown(name)} is of type {shown(dtype)}, which is not read")
    if not all(type(x) is int and 0 <= x < 2**48 for x in numbers):
        raise UserError(f"its header claims sizes of {shown(name)} that no tensor has")
    count, known = math.prod(shape), _DTYPES[dtype]
    if count * SIZES[known] != end - start:
        raise UserError(
            f"tensor {shown(name)} of shape {shape} claims {count} values of {known}, and has "
            f"{end - start} bytes"
        )
    return known, tuple(shape), start, end


def _tensor(
    path: str | os.PathLike[str], dtype: str, shape: tuple[int, ...], start: int
) -> LazyTensor:
    def load() -> Any:
        with open(path, "rb") as file:
            file.seek(start)
            content = file.read(math.prod(shape) * SIZES[dtype])
        return decode(content, dtype).reshape(shape)

    return LazyTensor(shape, dtype, load)
