"""Whether a graph is made for another runtime than TensorFlow.

Some operations are TensorFlow's alone. Where the same can be said in others, which cost more time
there, code asks `is_wanted`.
"""

import contextlib
import threading
from collections.abc import Iterator

_state = threading.local()


@contextlib.contextmanager
def operations() -> Iterator[None]:
    """Within it graphs are made of operations that LiteRT, ONNX and OpenVINO have too."""
    outer = is_wanted()
    _state.is_wanted = True
    try:
        yield
    finally:
        _state.is_wanted = outer


def is_wanted() -> bool:
    """Whether this is within `operations`."""
    return getattr(_state, "is_wanted", False)
