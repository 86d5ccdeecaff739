"""Sums over the replicas of a distribution strategy; the identity without one.

Keras adds up the gradients of all replicas. A loss is therefore written as each replica's share of
the global value: sums run over the replica's own images, normalisers over all of them.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras

from tfdet.tensors import Tensor

_state = threading.local()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within it there is one replica: sums are the replica's own."""
    outer = getattr(_state, "is_alone", False)
    _state.is_alone = True
    try:
        yield
    finally:
        _state.is_alone = outer


def count() -> int:
    """How many replicas train together."""
    if getattr(_state, "is_alone", False):
        return 1
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def sum_over_replicas(value: Any) -> Any:
    """The sum of every replica's `value`, the same on all of them."""
    if count() == 1:
        return value
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return value if context is None else context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def gather_over_replicas(values: Tensor) -> tuple[Any, Any]:
    """The values [B, ...] of all replicas in their order, and where this one's begin."""
    if count() == 1:
        return values, 0
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None:
        return values, 0
    sizes = context.all_gather(tf.shape(values)[:1], axis=0)
    before = tf.reduce_sum(sizes[: context.replica_id_in_sync_group])
    # Gathering forgets the other sides.
    everyone = tf.ensure_shape(context.all_gather(values, axis=0), [None, *values.shape[1:]])
    return everyone, before


def total_to_share(value: Any) -> Any:
    """One replica's share of a value that all replicas know in full."""
    return value / count() if count() > 1 else value


def share_to_total(value: Any) -> Any:
    """Scales a share so that the mean over replicas, which metrics report, is the total."""
    return value * count() if count() > 1 else value


def as_reducible(logs: Any) -> Any:
    """Logs of a step, with an axis for Keras to average them over where several workers train.

    Keras 3.15 averages the logs of workers along axis 0, which a scalar does not have.
    """
    if keras.backend.backend() != "tensorflow":
        return logs
    import tensorflow as tf

    if not isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy):
        return logs
    return {name: tf.reshape(value, [1]) for name, value in logs.items()}


def common_variable(name: str, shape: tuple[int, ...], dtype: str) -> keras.Variable:
    """A variable of zeros that is not trained and to which all replicas assign the same value."""
    return keras.Variable(
        "zeros",
        shape=shape,
        dtype=dtype,
        trainable=False,
        aggregation="only_first_replica",
        name=name,
    )
