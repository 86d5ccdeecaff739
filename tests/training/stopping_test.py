import os
import signal
import threading

import pytest

from tfdet.errors import Interrupted
from tfdet.training import stopping


def send(number):
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def sigint_counts():
    """A shell starts what it runs in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_raises_at_once_where_nothing_can_be_lost(number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught, stopping.Signals():
        send(number)
    assert caught.value.number == number
    assert signal.getsignal(number) == before


def test_a_signal_waits_for_a_check_and_the_next_ends_the_process(capfd):
    with stopping.Signals(lambda: True) as signals:
        signals.check()
        send(signal.SIGTERM)
        assert signals.is_received()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        with pytest.raises(Interrupted):
            signals.check()
    assert "stopping when the running step is done; once more ends at" in capfd.readouterr().err


def test_work_that_can_be_done_again_does_not_wait():
    signals = stopping.Signals(lambda: True)
    with pytest.raises(Interrupted), signals, signals.at_once():
        send(signal.SIGINT)
        raise AssertionError("not reached")
    with stopping.Signals(lambda: True) as signals:
        send(signal.SIGINT)  # ahead of the block
        with pytest.raises(Interrupted), signals.at_once():
            raise AssertionError("not reached")


def test_ignored_signals_and_other_threads_are_left_alone():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping.Signals():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    failures = []

    def enter():
        try:
            with stopping.Signals():
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert not failures
