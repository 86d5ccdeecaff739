"""Ctrl-C and SIGTERM as requests: what was done is saved first, and the command reports it."""

import contextlib
import os
import signal
import threading
import types
from collections.abc import Callable, Iterator

from tfdet.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_WAITING = b"\nstopping when the running step is done; once more ends at once\n"


class Signals:
    """Within the block the first SIGINT or SIGTERM raises `Interrupted`, now or at `check`.

    The second one has the system's own effect: it ends the process at once. Signals that the
    process was started to ignore (nohup) stay so. Nothing changes outside of the main thread.

    Args:
        must_wait: whether there is something to lose at this moment; then the signal is kept for
            `check`.
    """

    def __init__(self, must_wait: Callable[[], bool] = lambda: False):
        self._must_wait = must_wait
        self._at_once = False
        self._before: dict[int, object] = {}
        self._received = 0

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            handled = [s for s in _SIGNALS if signal.getsignal(s) != signal.SIG_IGN]
            self._before = {s: signal.signal(s, self._handle) for s in handled}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raises `Interrupted` if a signal has come."""
        if self._received:
            raise Interrupted("stopped", self._received)

    def is_received(self) -> bool:
        """Whether a signal has come."""
        return bool(self._received)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block a signal raises without waiting, also one that came before."""
        self.check()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        self._received = number
        for handled in self._before:
            signal.signal(handled, signal.SIG_DFL)
        if self._at_once or not self._must_wait():
            self.check()
        os.write(2, _WAITING)  # `print` may be what was interrupted
