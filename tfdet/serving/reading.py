"""Reads what is needed next in threads, in order, within a limit of memory."""

import collections
import functools
import itertools
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent import futures
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Called with a number of bytes before they are used.
Room = Callable[[int], None]


class Budget:
    """Memory that many readers share.

    Whoever is waited for always gets what it needs: results come in order, so that the others could
    not give anything back before.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._used = 0
        self._wanted = -1  # number of the reader that is waited for
        self._is_open = True
        self._changed = threading.Condition()

    def take(self, number: int, size: int) -> None:
        """Waits until `size` bytes are free, or until the reader `number` is waited for."""

        def may() -> bool:
            is_first = number <= self._wanted
            return is_first or not self._is_open or self._used + size <= self._limit

        with self._changed:
            self._changed.wait_for(may)
            self._used += size

    def give(self, size: int) -> None:
        """Returns bytes that were taken."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def want(self, number: int) -> None:
        """Says that the reader `number` is waited for."""
        with self._changed:
            self._wanted = number
            self._changed.notify_all()

    def close(self) -> None:
        """Lets all go that wait."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()


def read_ahead(
    read: Callable[[Item, Room], Result],
    items: Iterable[Item],
    threads: int,
    most: int,
    budget: Budget,
) -> Generator[Result, None, None]:
    """`read(item, room)` of each item, in order; the next ones are read while one is used.

    Args:
        read: calls `room(bytes)` before it uses much memory. Whoever uses up the result gives those
            bytes back to the budget.
        items: what is read.
        threads: how many read.
        most: results that are made ahead.
        budget: memory of all results together.
    """
    numbered = enumerate(items)
    waiting: collections.deque[tuple[int, futures.Future[Result]]] = collections.deque()
    pool = futures.ThreadPoolExecutor(threads, thread_name_prefix="tfdet-read")
    try:
        while True:
            for number, item in itertools.islice(numbered, most - len(waiting)):
                room = functools.partial(budget.take, number)
                waiting.append((number, pool.submit(read, item, room)))
            if not waiting:
                return
            number, future = waiting.popleft()
            budget.want(number)
            yield future.result()
    finally:
        budget.close()
        pool.shutdown(wait=True, cancel_futures=True)
