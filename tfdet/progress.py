"""How far long work is: on a terminal one line that is kept up to date, a few lines elsewhere."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

_REFRESH_SECONDS = 0.5
CLEAR_LINE = "\r\x1b[K"  # to its beginning, and what a longer text left behind is erased
_LINES, _LINE_SECONDS = 10, 5.0  # where the output is not a terminal: few lines, not too often


class Line:
    """A line whose text changes.

    Args:
        stream: where to; standard output by default.
    """

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stdout
        self.is_terminal = self._stream.isatty()
        self._shown = time.monotonic() - _REFRESH_SECONDS

    def is_due(self) -> bool:
        """Whether a terminal's line has not changed for a while."""
        return self.is_terminal and time.monotonic() - self._shown >= _REFRESH_SECONDS

    def show(self, text: str) -> None:
        """Puts `text` in the place of a terminal's line; elsewhere it is a line of its own."""
        self._shown = time.monotonic()
        self._write(text, end="" if self.is_terminal else "\n")

    def finish(self, text: str) -> None:
        """As `show`; what follows begins a new line."""
        self._write(text, end="\n")

    def _write(self, text: str, end: str) -> None:
        if self.is_terminal:
            self._stream.write(CLEAR_LINE)
        print(text, end=end, file=self._stream, flush=True)


class Pace:
    """How fast work is done, from when `start` was called.

    The first steps build graphs and say nothing about the others: `start` is called after them.
    """

    def __init__(self) -> None:
        self._first: float | None = None
        self._started = 0.0

    def start(self, done: float, again: bool = False) -> None:
        """Measures from now on, with so much done; later calls do nothing unless `again`."""
        if self._first is None or again:
            self._first, self._started = done, time.monotonic()

    def speed(self, done: float) -> float | None:
        """What is done in a second; None before something has been."""
        if self._first is None or done <= self._first:
            return None
        seconds = time.monotonic() - self._started
        return (done - self._first) / seconds if seconds > 0 else None

    def left(self, done: float, total: float) -> str:
        """The time that the rest takes, as `clock` writes it; "" where it is not known."""
        speed = self.speed(done)
        return clock((total - done) / speed) if speed else ""


class ImageCounter:
    """Called with (done, total): a line that shows how far a loop over images is.

    Args:
        stream: where to; standard error by default, so that results can be piped.
    """

    def __init__(self, stream: TextIO | None = None):
        self._line = Line(stream or sys.stderr)
        self._pace = Pace()
        self._said, self._share_said = time.monotonic(), 0

    def __call__(self, done: int, total: int) -> None:
        self._pace.start(done)
        if done == total:
            self._line.finish(f"{done}/{total} images{self._speed(done, total)}")
        elif self._is_due(done, total):
            self._said, self._share_said = time.monotonic(), done * _LINES // total
            self._line.show(f"{done}/{total} images{self._speed(done, total)}")

    def _is_due(self, done: int, total: int) -> bool:
        if self._line.is_terminal:
            return self._line.is_due()
        is_further = done * _LINES // total > self._share_said
        return is_further and time.monotonic() - self._said >= _LINE_SECONDS

    def _speed(self, done: int, total: int) -> str:
        speed = self._pace.speed(done)
        if speed is None:
            return ""
        left = f", {clock((total - done) / speed)} left" if done < total else ""
        return f", {speed:.1f} images/s{left}"


def measuring(stream: TextIO | None = None) -> Callable[[int, int], None] | None:
    """Shows (done, total) images of a measurement in a terminal's line; None off a terminal."""
    line = Line(stream)
    if not line.is_terminal:
        return None
    return lambda done, total: line.show(f"measuring {done}/{total} images")


def clock(seconds: float) -> str:
    """Seconds as people write them: 45 s, 3:20 min, 2:05 h."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"
