"""Tests of the lines that say how far long work is."""

import io
import itertools
import re

import pytest

from tfdet import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by two seconds whenever somebody looks."""
    seconds = itertools.count(0, 2)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))


def _count(stream, total=100):
    counter = progress.ImageCounter(stream)
    for done in range(10, total + 1, 10):
        counter(done, total)
    return stream.getvalue()


def test_file_gets_few_whole_lines_with_speed_and_time_left(clock):
    lines = _count(io.StringIO()).splitlines()
    assert re.fullmatch(r"100/100 images, [0-9.]+ images/s", lines[-1])
    assert 2 <= len(lines) <= 6
    assert all(re.search(r"images/s, [0-9]+ s left$", line) for line in lines[:-1])


def test_fast_loop_prints_only_the_end():
    assert _count(io.StringIO()).count("\n") == 1


def test_terminal_keeps_one_line(clock):
    text = _count(Terminal())
    assert text.count("\n") == 1
    assert re.search(r"100/100 images, [0-9.]+ images/s\n$", text)
    assert text.count("\r\x1b[K") > 5


def test_a_measurement_is_shown_on_a_terminal_only():
    stream = Terminal()
    progress.measuring(stream)(16, 200)
    assert stream.getvalue().endswith("measuring 16/200 images")
    assert progress.measuring(io.StringIO()) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1:00 min"), (200, "3:20 min"), (7500, "2:05 h")],
)
def test_durations_read_as_people_write_them(seconds, text):
    assert progress.clock(seconds) == text


def test_a_pace_leaves_out_what_was_done_before_it_began(monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    pace = progress.Pace()
    assert pace.left(1, 10) == "" and pace.speed(1) is None
    pace.start(1)
    assert pace.left(1, 10) == ""
    seconds[0] = 20.0
    pace.start(2)  # has begun already
    assert pace.speed(3) == 0.1 and pace.left(3, 10) == "1:10 min"
    pace.start(3, again=True)
    assert pace.left(3, 10) == ""
