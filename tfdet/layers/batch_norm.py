"""Batch normalisation as every network of the garden uses it."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Literal

import keras

Kind = Literal["plain", "synchronized", "frozen"]

_updates = threading.local()


@contextlib.contextmanager
def no_updates() -> Iterator[None]:
    """Within it, batch norms leave their moving statistics alone."""
    _updates.off = True
    try:
        yield
    finally:
        _updates.off = False


def batch_norm(kind: Kind, name: str, **kwargs: Any) -> keras.layers.Layer:
    """A batch norm layer.

    Args:
        kind: "plain" uses the statistics of one replica's batch; "synchronized" those of all
            replicas; "frozen" always uses the moving statistics, and nothing of it is trained.
    """
    if kind not in ("plain", "synchronized", "frozen"):
        raise ValueError(
            f"batch_norm must be 'plain', 'synchronized' or 'frozen'; got {kind!r} for {name}"
        )
    synchronized = kind == "synchronized"
    layer = BatchNormalization(synchronized=synchronized, name=name, **kwargs)
    layer.trainable = kind != "frozen"
    return layer


@keras.saving.register_keras_serializable(package="tfdet")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch norm, which can be told to leave its statistics alone (`no_updates`)."""
