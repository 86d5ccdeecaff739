"""Tests of reading ahead."""

import contextlib
import threading
import time

import pytest

from tfdet.serving import reading


def _all(sizes, limit, threads=4, most=8):
    """Reads items of these sizes, giving each back; the results and the most that was taken."""
    budget, lock = reading.Budget(limit), threading.Lock()
    held, most_held = 0, 0

    def read(i, room):
        nonlocal held, most_held
        room(sizes[i])
        with lock:
            held += sizes[i]
            most_held = max(most_held, held)
        time.sleep(0.002 * (i % 3))
        return i

    found = []
    for i in reading.read_ahead(read, range(len(sizes)), threads, most, budget):
        found.append(i)
        with lock:
            held -= sizes[i]
        budget.give(sizes[i])
    return found, most_held


@pytest.mark.parametrize("threads", [1, 4])
def test_results_come_in_order(threads):
    assert _all([1] * 50, 100, threads)[0] == list(range(50))


def test_memory_stays_within_the_budget():
    found, most_held = _all([10] * 40, limit=30)
    assert found == list(range(40))
    assert most_held <= 40  # the limit, and the one that is waited for


def test_one_that_is_larger_than_the_budget_is_read_when_it_is_waited_for():
    assert _all([1, 1000, 1, 1000, 1000], limit=10)[0] == [0, 1, 2, 3, 4]


def test_what_comes_next_is_read_while_one_is_used():
    read = threading.Semaphore(0)

    def count(i, room):
        read.release()
        return i

    with contextlib.closing(
        reading.read_ahead(count, range(100), 2, 6, reading.Budget(1))
    ) as results:
        assert next(results) == 0
        for _ in range(6):  # and no result was taken meanwhile
            assert read.acquire(timeout=10)
        assert not read.acquire(timeout=0.1)


def test_whoever_ends_early_does_not_wait_for_room():
    def read(i, room):
        room(10)
        return i

    results = reading.read_ahead(read, range(100), 3, 9, reading.Budget(10))
    assert next(results) == 0
    results.close()  # the others wait for room that nobody gives back


def test_an_error_is_raised_in_its_turn():
    def read(i, room):
        if i == 3:
            raise OSError("gone")
        return i

    found = []
    with pytest.raises(OSError, match="gone"):
        found.extend(reading.read_ahead(read, range(9), 2, 4, reading.Budget(10)))
    results = reading.read_ahead(read, range(9), 2, 4, reading.Budget(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
