"""Tests of work that is done behind the caller."""

import threading
import time

import pytest

from tfdet.behind import Behind


def test_results_come_in_the_order_of_the_work():
    def slow_first(i):
        time.sleep(0.05 if i == 0 else 0.0)
        return i

    with Behind(threads=3, most=4) as behind:
        results = []
        for i in range(20):
            results += behind.put(slow_first, i)
        assert results + behind.finish() == list(range(20))


def test_the_caller_waits_where_too_much_is_unfinished():
    gate, started = threading.Event(), []

    def work(i):
        started.append(i)
        gate.wait(10)
        return i

    with Behind(threads=1, most=2) as behind:
        assert behind.put(work, 0) == behind.put(work, 1) == []
        threading.Timer(0.1, gate.set).start()
        assert behind.put(work, 2)[0] == 0  # returned because the first was waited for
        behind.finish()


def test_a_failure_is_raised_in_its_turn_and_what_was_done_before_it_is_kept():
    def work(i):
        if i == 2:
            raise ValueError("two")
        return i

    with Behind(threads=1, most=9) as behind:
        done = []
        with pytest.raises(ValueError, match="two"):
            for i in range(4):
                done += behind.put(work, i)
            done += behind.finish()
        assert done + behind.stop() == [0, 1] or done == []


def test_stopping_begins_nothing_more_and_gives_what_is_done():
    gate, begun = threading.Event(), []

    def work(i):
        begun.append(i)
        gate.wait(10)
        return i

    behind = Behind(threads=1, most=9)
    for i in range(5):
        assert behind.put(work, i) == []
    threading.Timer(0.1, gate.set).start()
    assert behind.stop() == begun == [0]
