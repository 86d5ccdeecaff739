"""Tests of the lines that say how far long work is."""

import io

import pytest

from tfdet import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A list with the time, which goes on when somebody changes it."""
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


def _count(stream, clock, total=100, seconds=2.0):
    """Counts to `total` in tens, each of which takes `seconds`."""
    counter = progress.ImageCounter(stream)
    for done in range(10, total + 1, 10):
        clock[0] += seconds
        counter(done, total)
    return stream.getvalue()


def test_file_gets_few_whole_lines_with_speed_and_time_left(clock):
    assert _count(io.StringIO(), clock).splitlines() == [
        "30/100 images, 5.0 images/s, 14 s left",
        "60/100 images, 5.0 images/s, 8 s left",
        "90/100 images, 5.0 images/s, 2 s left",
        "100/100 images, 5.0 images/s",
    ]


def test_long_loop_prints_ten_lines(clock):
    lines = _count(io.StringIO(), clock, total=1000, seconds=60.0).splitlines()
    assert len(lines) == 10 and lines[1].endswith(", 0.2 images/s, 1:20 h left")


def test_fast_loop_prints_only_the_end(clock):
    assert _count(io.StringIO(), clock, seconds=0.01).splitlines() == [
        "100/100 images, 1000.0 images/s"
    ]


def test_terminal_keeps_one_line(clock):
    text = _count(Terminal(), clock)
    assert text.count("\n") == 1
    assert text.endswith("100/100 images, 5.0 images/s\n")
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


def test_a_pace_leaves_out_what_was_done_before_it_began(clock):
    pace = progress.Pace()
    assert pace.left(1, 10) == "" and pace.speed(1) is None
    pace.start(1)
    assert pace.left(1, 10) == ""
    clock[0] = 20.0
    pace.start(2)  # has begun already
    assert pace.speed(3) == 0.1 and pace.left(3, 10) == "1:10 min"
    pace.start(3, again=True)
    assert pace.left(3, 10) == ""
