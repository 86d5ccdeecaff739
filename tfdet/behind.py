"""Work that is done behind the caller, whose results come in the order in which it was given."""

import collections
from collections.abc import Callable
from concurrent import futures
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Behind(Generic[Result]):
    """Threads that do what they are given while the caller goes on.

    Example:
        with Behind(threads=2, most=8) as behind:
            for image in images:
                for path in behind.put(write, image):
                    print(path)
            for path in behind.finish():
                print(path)

    Args:
        threads: how many work.
        most: pieces of work that may be unfinished; `put` waits where there are more.
    """

    def __init__(self, threads: int, most: int):
        self._pool = futures.ThreadPoolExecutor(threads, thread_name_prefix="tfdet-behind")
        self._most = most
        self._waiting: collections.deque[futures.Future[Result]] = collections.deque()

    def put(self, function: Callable[..., Result], *arguments: Any) -> list[Result]:
        """Has `function(*arguments)` called; returns results that are there, oldest first.

        Raises:
            Exception: what the oldest unfinished piece of work has raised.
        """
        self._waiting.append(self._pool.submit(function, *arguments))
        results = []
        while self._waiting and (len(self._waiting) > self._most or self._waiting[0].done()):
            results.append(self._oldest())
        return results

    def finish(self) -> list[Result]:
        """Waits for all that was given; returns what `put` has not."""
        return [self._oldest() for _ in range(len(self._waiting))]

    def stop(self) -> list[Result]:
        """Begins no more work; returns the results that `put` has not, up to the first failure."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        results = []
        for future in self._waiting:
            if future.cancelled() or future.exception():
                break
            results.append(future.result())
        self._waiting.clear()
        return results

    def _oldest(self) -> Result:
        # Taken away only once it is there: whoever is interrupted here finds it in `stop`.
        result = self._waiting[0].result()
        self._waiting.popleft()
        return result

    def __enter__(self) -> "Behind[Result]":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
