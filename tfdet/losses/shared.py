"""What the losses of several detectors ask of the same targets, found out once.

The two detectors of a cascade have the same anchors, and match them with the same objects.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

_state = threading.local()
_Function = TypeVar("_Function", bound=Callable[..., Any])


@contextlib.contextmanager
def answers() -> Iterator[None]:
    """Within it, an `answered_once` function computes once for equal arguments."""
    outer = getattr(_state, "found", None)
    _state.found = {}
    try:
        yield
    finally:
        _state.found = outer


def answered_once(function: _Function) -> _Function:
    """Has a function of targets and constants give the same tensors again, within `answers`.

    Tensors and arrays are equal if they are the same object. One tensor at least must be of the
    graph that the function is called in, which its result belongs to.
    """

    @functools.wraps(function)
    def ask(*args: Any, **options: Any) -> Any:
        found = getattr(_state, "found", None)
        if found is None:
            return function(*args, **options)
        question = (function, *map(_key, args), *((name, _key(x)) for name, x in options.items()))
        if question not in found:
            # The arguments too, so that no other object gets their identity.
            found[question] = function(*args, **options), args, options
        return found[question][0]

    return ask  # type: ignore[return-value]


def _key(argument: Any) -> Any:
    try:
        hash(argument)
    except TypeError:
        return id(argument)
    return argument
