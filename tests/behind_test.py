"""Tests of work that is done behind the caller."""

import threading
import time

import pytest

from tfdet.behind import Behind


def test_results_come_in_the_order_of_the_work():
    def slow_first(i):
        time.sleep(0.05 if i == 0 else 0.0)
        return i

    results = []
    with Behind(threads=3, most=4, take=results.append) as behind:
        for i in range(20):
            behind.put(slow_first, i)
        behind.finish()
    assert results == list(range(20))


def test_the_caller_waits_where_too_much_is_unfinished():
    gate, results = threading.Event(), []

    def work(i):
        gate.wait(10)
        return i

    with Behind(threads=1, most=2, take=results.append) as behind:
        behind.put(work, 0)
        behind.put(work, 1)
        assert results == []
        threading.Timer(0.1, gate.set).start()
        behind.put(work, 2)
        assert results[0] == 0
        behind.finish()


def test_a_failure_is_raised_in_its_turn_and_loses_nothing_that_was_done_before():
    def work(i):
        if i == 2:
            raise ValueError("two")
        return i

    results = []
    with Behind(threads=1, most=9, take=results.append) as behind:
        with pytest.raises(ValueError, match="two"):
            for i in range(4):
                behind.put(work, i)
            behind.finish()
        behind.stop(results.append)
    assert results == [0, 1]


def test_stopping_begins_nothing_more_and_takes_what_is_done():
    gate, begun, results = threading.Event(), [], []

    def work(i):
        begun.append(i)
        gate.wait(10)
        return i

    behind = Behind(threads=1, most=9, take=pytest.fail)
    for i in range(5):
        behind.put(work, i)
    threading.Timer(0.1, gate.set).start()
    behind.stop(results.append)
    assert results == begun == [0]
