"""A bounded queue whose items are computed in batches, each of which waits for a limited time."""

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent import futures
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFull(Exception):
    """There is no place for so many items now."""


class QueueClosed(Exception):
    """Nothing is accepted any more."""


@dataclasses.dataclass(eq=False)
class Ticket(Generic[Item, Result]):
    """A place in the queue, held from before the item is prepared until its result is there.

    Attributes:
        arrived: when the place was given, on the queue's clock.
        item: what is computed; None while it is being prepared.
        key: items of one batch have equal keys.
        result: of the item.
    """

    arrived: float
    item: Item | None = None
    key: Hashable = None
    queued: float = 0.0
    result: "futures.Future[Result]" = dataclasses.field(default_factory=futures.Future)


class BatchQueue(Generic[Item, Result]):
    """Computes items in batches, in a thread of its own.

    A client reserves places first, so that what is being prepared is bounded too, then puts its
    items in them, or gives them back. Whoever has a place gets a result, also after `close`.

    Where a batch fails, its items are computed one by one, and those that fail alone get the error:
    no item harms another.

    Args:
        compute: items, of which there is at least one, to a result for each.
        most: items in a batch.
        wait_s: how long the first item of a batch waits for others, once it could be computed.
        capacity: places.
        clock: seconds.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Ticket[Item, Result]]], Sequence[Result]],
        most: int,
        wait_s: float,
        capacity: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._compute = compute
        self._most = most
        self._wait_s = wait_s
        self._capacity = capacity
        self._clock = clock
        self._held: dict[Ticket[Item, Result], None] = {}  # in order of arrival
        self._ready: collections.deque[Ticket[Item, Result]] = collections.deque()
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="tfdet-batches", daemon=True)
        self._thread.start()

    def reserve(
        self,
        count: int,
        is_refused: Callable[[int], bool] = lambda held: False,
        arrived: float | None = None,
    ) -> list[Ticket[Item, Result]]:
        """Places for `count` items, all or none.

        Args:
            count: at most the capacity.
            is_refused: called with the number of places that are held; may refuse them too.
            arrived: when their request came; None for now.

        Raises:
            QueueFull, QueueClosed: there are no places.
        """
        with self._changed:
            if self._is_closed:
                raise QueueClosed
            held = len(self._held)
            if held + count > self._capacity or is_refused(held):
                raise QueueFull
            when = self._clock() if arrived is None else arrived
            tickets = [Ticket[Item, Result](when) for _ in range(count)]
            self._held.update(dict.fromkeys(tickets))
            return tickets

    def put(self, ticket: Ticket[Item, Result], item: Item, key: Hashable = None) -> None:
        """Puts an item in its place; its result will be in `ticket.result`."""
        with self._changed:
            ticket.item, ticket.key, ticket.queued = item, key, self._clock()
            self._ready.append(ticket)
            self._changed.notify_all()

    def give_back(self, ticket: Ticket[Item, Result]) -> None:
        """Frees a place whose item will not come, or whose result is there."""
        with self._changed:
            self._held.pop(ticket, None)
            self._changed.notify_all()

    def waiting(self) -> list[Ticket[Item, Result]]:
        """Whoever has a place and no result, in order of arrival."""
        with self._changed:
            return list(self._held)

    def stop(self) -> None:
        """Accepts nothing more, and computes what was accepted without waiting for others."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def close(self, timeout_s: float | None = None) -> None:
        """As `stop`, and returns when all that was accepted has its result."""
        self.stop()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while batch := self._next_batch():
            self._answer(batch)

    def _next_batch(self) -> list[Ticket[Item, Result]]:
        """Items with the key of the first one; none when all is done and the queue closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or (self._is_closed and not self._held))
            if not self._ready:
                return []
            first = self._ready[0]
            until = first.queued + self._wait_s

            def is_complete() -> bool:
                return self._is_closed or len(self._alike(first)) == self._most

            while not is_complete() and (left := until - self._clock()) > 0:
                self._changed.wait(left)
            batch = self._alike(first)
            for ticket in batch:
                self._ready.remove(ticket)
            return batch

    def _alike(self, first: Ticket[Item, Result]) -> list[Ticket[Item, Result]]:
        alike = [ticket for ticket in self._ready if ticket.key == first.key]
        return alike[: self._most]

    def _answer(self, batch: Sequence[Ticket[Item, Result]]) -> None:
        try:
            results = self._compute(batch)
        except Exception as error:
            if len(batch) == 1:
                self.give_back(batch[0])
                batch[0].result.set_exception(error)
                return
            for ticket in batch:
                self._answer([ticket])
            return
        for ticket, result in zip(batch, results, strict=True):
            # First the place: whoever has its answer may ask again at once.
            self.give_back(ticket)
            ticket.result.set_result(result)
