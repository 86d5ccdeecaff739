"""Whether a graph is made for another runtime than TensorFlow.

Some operations are TensorFlow's alone. Where the same can be said in others, which cost more time
there, code asks `is_wanted`.
"""

import contextlib
import threading
from collections.abc import Iterator

_state = threading.local()


@contextlib.contextmanager
def operations(has_nesting: bool = True) -> Iterator[None]:
    """Within it graphs are made of operations that LiteRT, ONNX and OpenVINO have too.

    Args:
        has_nesting: whether the runtime is right about a condition within a condition.
    """
    outer = is_wanted(), nests()
    _state.is_wanted, _state.nests = True, has_nesting
    try:
        yield
    finally:
        _state.is_wanted, _state.nests = outer


def is_wanted() -> bool:
    """Whether this is within `operations`."""
    return getattr(_state, "is_wanted", False)


def nests() -> bool:
    """Whether a condition may be within another: everywhere but within `operations` without."""
    return getattr(_state, "nests", True)
