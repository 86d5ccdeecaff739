"""A line that says how far a loop over images is."""

import sys
import time
from typing import TextIO

_REFRESH_SECONDS = 0.5
_LINES, _LINE_SECONDS = 10, 5.0  # where the output is not a terminal: few lines, not too often


class ImageCounter:
    """Called with (done, total); keeps one line up to date, or prints some lines into a file.

    Args:
        stream: where to; standard error by default, so that results can be piped.
    """

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._started = self._shown = time.monotonic()
        self._share_shown = 0
        self._first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None:
            # The first batch builds the graph, which says nothing about the others.
            self._first, self._started = done, now
        if not self._is_due(done, total, now):
            return
        self._shown, self._share_shown = now, done * _LINES // total
        end = "\n" if done == total or not self._is_terminal else ""
        head = "\r\x1b[K" if self._is_terminal else ""
        text = f"{head}{done}/{total} images{self._speed(done, total, now)}"
        print(text, end=end, file=self._stream, flush=True)

    def _is_due(self, done: int, total: int, now: float) -> bool:
        if done == total:
            return True
        if self._is_terminal:
            return now - self._shown >= _REFRESH_SECONDS
        is_further = done * _LINES // total > self._share_shown
        return is_further and now - self._shown >= _LINE_SECONDS

    def _speed(self, done: int, total: int, now: float) -> str:
        if done == self._first or now <= self._started:
            return ""
        speed = (done - self._first) / (now - self._started)
        text = f", {speed:.1f} images/s"
        left = (total - done) / speed
        return f"{text}, {left // 60:.0f}:{left % 60:02.0f} min left" if done < total else text
