"""Conditional computation within a batch: a branch runs on the rows that need it, or not at all.

TensorFlow alone: other backends have no shapes that depend on data.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfdet.ops import portable
from tfdet.tensors import Tensor

_state = threading.local()


def on_rows(
    function: Callable[[Any], Any], is_chosen: tf.Tensor, tensors: Tensor, default: Any
) -> Tensor:
    """`function` on the chosen rows of a batch, put back in their places; not run for none.

    `function` never sees an empty batch: beside being wasted, convolutions of oneDNN give wrong
    shapes for one. Where all rows are chosen nothing is copied, if conditions may be within others,
    see `portable.nests`. A batch that is known to have one row is a plain condition, without shapes
    that depend on data: LiteRT can run that.

    Example:
        on_rows(lambda x: tf.sqrt(x), x >= 0, x, default=tf.constant(-1.0))

    Args:
        function: takes rows of `tensors`, [N, ...] each with N >= 1; gives a structure like
            `default` with N rows.
        is_chosen: bool [B].
        tensors: a structure of tensors [B, ...].
        default: a structure of tensors, what stands in rows that are not chosen.

    Returns:
        A structure like `default` with B rows.
    """
    if is_chosen.shape[0] == 1:
        return tf.cond(
            is_chosen[0],
            lambda: function(tensors),
            lambda: tf.nest.map_structure(lambda x: _repeated(x, 1), default),
        )
    rows = tf.where(is_chosen)[:, 0]
    count, batch = tf.size(rows), tf.size(is_chosen)
    empty = tf.nest.map_structure(lambda x: _repeated(x, batch), default)

    def choose(tensor: tf.Tensor) -> tf.Tensor:
        if not portable.nests():
            return tf.gather(tensor, rows)
        # One condition per tensor: those that the function does not use fall away.
        return tf.cond(count == batch, lambda: tensor, lambda: tf.gather(tensor, rows))

    def run() -> Any:
        outputs = function(tf.nest.map_structure(choose, tensors))
        return tf.nest.map_structure(
            lambda into, values: tf.tensor_scatter_nd_update(into, rows[:, None], values),
            empty,
            outputs,
        )

    return tf.cond(count > 0, run, lambda: empty)


def at_least_one(function: Callable[[tf.Tensor], Any], tensor: tf.Tensor) -> Tensor:
    """`function(tensor)`; for an empty batch it gets a row of zeros, which is taken away again.

    Args:
        function: takes [B, ...] with B >= 1, gives a structure of tensors [B, ...].
        tensor: [B, ...].
    """
    tensor = tf.convert_to_tensor(tensor)
    if tensor.shape[0]:
        return function(tensor)
    batch = tf.shape(tensor)[0]
    one_if_empty = tf.cast(batch == 0, tf.int32)
    padded = tf.pad(tensor, [[0, one_if_empty]] + [[0, 0]] * (len(tensor.shape) - 1))
    return tf.nest.map_structure(lambda x: x[:batch], function(padded))


@contextlib.contextmanager
def constant_branches() -> Iterator[None]:
    """Graphs that are made within it have numbers instead of variables where `value_of` is.

    A variable that a branch or a loop of a graph reads is an argument of it, even in a graph whose
    variables have been made constants. Nothing folds with an argument, and oneDNN sorts weights
    that are an argument again with every run.
    """
    outer = getattr(_state, "is_constant", False)
    _state.is_constant = True
    try:
        yield
    finally:
        _state.is_constant = outer


def value_of(variable: keras.Variable) -> Any:
    """The variable's value: a NumPy array within `constant_branches`, a tensor otherwise."""
    if not getattr(_state, "is_constant", False):
        return variable.value
    with tf.init_scope():
        return variable.numpy()


def _repeated(row: Tensor, batch: tf.Tensor) -> tf.Tensor:
    row = tf.convert_to_tensor(row)
    return tf.broadcast_to(row, tf.concat([[batch], row.shape], axis=0))
