"""How several processes and devices share the work of one measurement.

    batch 0    batch 1    batch 2    batch 3        of the data set, the same ones however many work
    process 0  process 1  process 0  process 1      each on all of its replicas
    `gathered` -> every process has what is found in all batches, in the order of the images

Batches are shared and not images, so that what is computed together does not depend on how many
work: the numbers are those of one process, bit by bit.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np

from tfdet.detectors.base import Detector
from tfdet.ops.as_written import as_written

Item = TypeVar("Item")

# Tensors of a batch to tensors.
Detect = Callable[..., Any]


class Sharing(Protocol):
    """Who takes part.

    Attributes:
        shard: (number of this process, number of all).
        replicas: devices of this process that compute at a time.
    """

    shard: tuple[int, int]
    replicas: int

    def prepare(self, model: Detector) -> None:
        """Makes sure that all have the same weights; called ahead of each measurement."""

    def on_replicas(self, detect: Detect, specs: Sequence[Any]) -> Callable[[list[Any]], list[Any]]:
        """`detect` of tensors like `specs` for up to `replicas` batches, each on its own device."""

    def gather(self, content: bytes) -> list[bytes]:
        """What each process gave, in their order; all of them call this together."""


class Alone:
    """One process that computes on one device."""

    shard = (0, 1)
    replicas = 1

    def prepare(self, model: Detector) -> None:
        pass

    def on_replicas(self, detect: Detect, specs: Sequence[Any]) -> Callable[[list[Any]], list[Any]]:
        import tensorflow as tf

        function = tf.function(as_written(detect), input_signature=list(specs))
        return lambda batches: [function(*batch) for batch in batches]

    def gather(self, content: bytes) -> list[bytes]:
        return [content]


ALONE = Alone()


def groups(batches: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The batches, `size` of them together, the last ones fewer."""
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield group


def gathered(sharing: Sharing, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of all processes' arrays, [N, ...] each, concatenated in the order of the processes.

    A process without any batch gives no arrays.
    """
    if sharing.shard[1] == 1:
        return dict(arrays)
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # no name of ours is an option
    parts = [dict(np.load(io.BytesIO(part))) for part in sharing.gather(content.getvalue())]
    full = [part for part in parts if part]
    return {name: np.concatenate([part[name] for part in full]) for name in full[0]} if full else {}
