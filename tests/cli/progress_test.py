"""Tests of the line that says how far a loop is."""

import io
import itertools

import pytest

from tfdet.cli import progress


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
    assert lines[-1] == "100/100 images, 5.0 images/s"
    assert 2 <= len(lines) <= 6
    assert all("images/s, 0:" in line and "min left" in line for line in lines[:-1])


def test_fast_loop_prints_only_the_end():
    assert _count(io.StringIO()).count("\n") == 1


def test_terminal_keeps_one_line(clock, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    text = _count(stream)
    assert text.count("\n") == 1
    assert text.endswith("100/100 images, 5.0 images/s\n")
    assert text.count("\r\x1b[K") > 5
