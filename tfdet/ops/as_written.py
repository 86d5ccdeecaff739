"""Tracing of functions that need no rewriting."""

from collections.abc import Callable
from typing import Any, TypeVar

import keras

Function = TypeVar("Function", bound=Callable[..., Any])


def as_written(function: Function) -> Function:
    """`function`, which TensorFlow need not rewrite while it traces: half the time of a trace.

    AutoGraph makes graph operations of Python's `if` and `for` on tensors. This package has none:
    it says `cond`, `map_fn` and `while_loop` where it means those. `tf.function(autograph=False)`
    leaves the function alone, but not those that it gives to `map_fn` or to a data set; this does.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    written: Function = tf.autograph.experimental.do_not_convert(function)
    return written
