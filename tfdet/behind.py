"""Work that is done behind the caller, whose results come in the order in which it was given."""

import collections
from collections.abc import Callable
from concurrent import futures
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Behind(Generic[Result]):
    """Threads that do what they are given while the caller continues.

    Example:
        with Behind(threads=2, most=8, take=print) as behind:
            for image in images:
                behind.put(write, image)
            behind.finish()

    Args:
        threads: how many work.
        most: pieces of work that may be unfinished; `put` waits where there are more.
        take: called with each result, in the order of the work, by `put`, `finish` and `stop`.
    """

    def __init__(
        self, threads: int, most: int, take: Callable[[Result], object] = lambda result: None
    ):
        self._take = take
        self._pool = futures.ThreadPoolExecutor(threads, thread_name_prefix="tfdet-behind")
        self._most = most
        self._waiting: collections.deque[futures.Future[Result]] = collections.deque()

    def put(self, function: Callable[..., Result], *arguments: Any) -> None:
        """Has `function(*arguments)` called; takes results that are there.

        Raises:
            Exception: what the oldest piece of work has raised.
        """
        self._waiting.append(self._pool.submit(function, *arguments))
        while self._waiting and (len(self._waiting) > self._most or self._waiting[0].done()):
            self._take_oldest()

    def finish(self) -> None:
        """Waits for all that was given, and takes the results."""
        while self._waiting:
            self._take_oldest()

    def stop(self, take: Callable[[Result], object]) -> None:
        """Begins no more work; `take` gets the results that are there, up to the first failure."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._take = take
        while self._waiting and not self._waiting[0].cancelled():
            if self._waiting[0].exception():
                break
            self._take_oldest()
        self._waiting.clear()

    def _take_oldest(self) -> None:
        # Removed only once it is there: whoever is interrupted here finds it in `stop`.
        result = self._waiting[0].result()
        self._waiting.popleft()
        self._take(result)

    def __enter__(self) -> "Behind[Result]":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
