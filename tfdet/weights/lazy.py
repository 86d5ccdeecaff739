"""Arrays of weights files that are read when they are asked for."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

ByteOrder = Literal["<", ">"]
# Bytes of a value, by the name of its type.
SIZES = {
    **dict.fromkeys(("float64", "int64", "uint64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool"), 1),
}


class LazyTensor:
    """An array in a file; `read()`, or NumPy where it wants an array, gives its values.

    Args:
        shape: its sides.
        dtype: the name of its type in the file; what is read is float32 of "bfloat16".
        load: reads it.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str, load: Callable[[], np.ndarray]):
        self.shape = shape
        self.dtype = dtype
        self._load = load

    @property
    def size(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    def read(self) -> np.ndarray:
        """The values."""
        array = self._load()
        assert array.shape == self.shape
        return array

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("values in a file cannot be had without a copy")
        array = self.read()
        return np.array(array, dtype) if copy else np.asarray(array, dtype)

    def __repr__(self) -> str:
        return f"LazyTensor({self.shape}, {self.dtype})"


def decode(content: bytes | memoryview, dtype: str, byteorder: ByteOrder = "<") -> np.ndarray:
    """Values in a row from their bytes; bfloat16 becomes float32."""
    if dtype == "bfloat16":  # the upper half of a float32
        upper = np.frombuffer(content, f"{byteorder}u2")
        return (upper.astype(np.uint32) << 16).view(np.float32)
    kind = np.dtype(dtype)
    array = np.frombuffer(content, kind.newbyteorder(byteorder))
    return array if array.dtype == kind else array.astype(kind)
