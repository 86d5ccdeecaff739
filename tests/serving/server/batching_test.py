"""Tests of the queue: batches, bounds, failures, and a close that loses nothing."""

import threading
import time

import pytest

from tfdet.serving.server.batching import BatchQueue, QueueClosed, QueueFull


class _Computer:
    """Doubles numbers and keeps its batches; held up while `gate` is closed."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, tickets):
        self.gate.wait(10)
        items = [ticket.item for ticket in tickets]
        self.batches.append(items)
        if "bad" in items:
            raise ValueError("bad")
        return [2 * item for item in items]


@pytest.fixture
def computer():
    return _Computer()


@pytest.fixture
def make_queue(computer):
    queues = []

    def make(most=4, wait_s=0.05, capacity=8):
        queues.append(BatchQueue(computer, most, wait_s, capacity))
        return queues[-1]

    yield make
    computer.gate.set()
    for queue in queues:
        for ticket in queue.waiting():
            if ticket.item is None:
                queue.give_back(ticket)
        queue.close(10)


def _put(queue, *items, key=None):
    tickets = queue.reserve(len(items))
    for ticket, item in zip(tickets, items, strict=True):
        queue.put(ticket, item, key)
    return [ticket.result for ticket in tickets]


def _results(futures):
    return [future.result(10) for future in futures]


def test_items_are_computed_together_and_answered_in_their_places(make_queue, computer):
    queue = make_queue(wait_s=10)
    assert _results(_put(queue, 1, 2, 3, 4)) == [2, 4, 6, 8]
    assert computer.batches == [[1, 2, 3, 4]]


def test_a_batch_waits_no_longer_than_the_limit(make_queue, computer):
    queue = make_queue(wait_s=0.1)
    start = time.monotonic()
    assert _results(_put(queue, 1, 2)) == [2, 4]
    assert 0.1 <= time.monotonic() - start < 5
    assert computer.batches == [[1, 2]]


def test_more_items_than_a_batch_holds_go_into_several(make_queue, computer):
    queue = make_queue(wait_s=0)
    computer.gate.clear()
    first = _put(queue, 0)
    while len(queue._ready):
        time.sleep(0.001)
    others = _put(queue, *range(1, 8))
    computer.gate.set()
    assert _results(first + others) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert computer.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]


def test_items_with_other_keys_have_batches_of_their_own(make_queue, computer):
    queue = make_queue(most=8, wait_s=0.05)
    tickets = queue.reserve(4)
    for ticket, (item, key) in zip(tickets, [(1, "a"), (2, "b"), (3, "a"), (4, "b")], strict=True):
        queue.put(ticket, item, key)
    assert _results(ticket.result for ticket in tickets) == [2, 4, 6, 8]
    assert computer.batches == [[1, 3], [2, 4]]


def test_a_full_queue_takes_all_items_of_a_request_or_none(make_queue, computer):
    queue = make_queue(capacity=4)
    computer.gate.clear()
    _put(queue, 1, 2, 3)
    with pytest.raises(QueueFull):
        queue.reserve(2)
    assert len(queue.reserve(1)) == 1
    with pytest.raises(QueueFull):
        queue.reserve(1)


def test_a_place_counts_from_its_reservation_until_the_result(make_queue):
    queue = make_queue(capacity=2)
    one, other = queue.reserve(2)
    assert queue.waiting() == [one, other]
    queue.give_back(one)
    queue.put(other, 5)
    assert other.result.result(10) == 10
    assert queue.waiting() == []
    assert len(queue.reserve(2)) == 2


def test_a_refusal_sees_how_many_places_are_held(make_queue):
    queue = make_queue()
    queue.reserve(3)
    seen = []
    with pytest.raises(QueueFull):
        queue.reserve(1, lambda held: seen.append(held) or True)
    assert seen == [3]
    assert len(queue.waiting()) == 3


def test_an_item_that_fails_harms_no_other(make_queue):
    queue = make_queue(most=3, wait_s=10)
    one, bad, other = _put(queue, 1, "bad", 3)
    assert _results([one, other]) == [2, 6]
    with pytest.raises(ValueError, match="bad"):
        bad.result(10)
    assert _results(_put(queue, 4, 5, 6)) == [8, 10, 12]


def test_close_answers_what_was_accepted_and_accepts_nothing_more(make_queue, computer):
    queue = make_queue(wait_s=60)
    computer.gate.clear()
    futures = _put(queue, 1, 2, 3, 4, 5)
    (late,) = queue.reserve(1)
    closing = threading.Thread(target=queue.close)
    closing.start()
    while not queue._is_closed:
        time.sleep(0.001)
    with pytest.raises(QueueClosed):
        queue.reserve(1)
    computer.gate.set()
    assert _results(futures) == [2, 4, 6, 8, 10]
    assert closing.is_alive()  # a place is still held
    queue.put(late, 7)
    assert late.result.result(10) == 14
    closing.join(10)
    assert not closing.is_alive()


def test_many_threads_each_get_their_own_result(make_queue):
    queue = make_queue(most=5, wait_s=0.001, capacity=1000)
    found = {}

    def client(number):
        for i in range(20):
            item = 100 * number + i
            found[item] = _results(_put(queue, item))[0]

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {100 * n + i: 2 * (100 * n + i) for n in range(8) for i in range(20)}
