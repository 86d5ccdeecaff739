"""What a user sees while a model trains: a bar on a terminal, one line per epoch elsewhere."""

import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import keras

from tfdet.training import checkpoint

_REFRESH_SECONDS = 0.5
_BAR_WIDTH = 20


class ProgressLine(keras.callbacks.Callback):
    """Prints how far the run is and when it will end.

    Args:
        progress: of the run; its `step` is counted by someone else.
        steps_per_epoch, num_epochs: length of the run.
        stream: where to; standard output by default.
    """

    def __init__(
        self,
        progress: checkpoint.Progress,
        steps_per_epoch: int,
        num_epochs: int,
        stream: TextIO | None = None,
    ):
        super().__init__()
        self._progress = progress
        self._steps_per_epoch = steps_per_epoch
        self._num_epochs = num_epochs
        self._stream = stream or sys.stdout
        self._is_terminal = self._stream.isatty()
        self._first_step: int | None = None
        self._started = self._shown = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        now = time.monotonic()
        if self._first_step is None:
            # The first step builds the graph, which says nothing about the others.
            self._first_step, self._started = self._progress.step, now
        if self._is_terminal and now - self._shown >= _REFRESH_SECONDS:
            self._shown = now
            self._write(self._bar(logs or {}))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        head = f"epoch {epoch + 1}/{self._num_epochs}"
        self._write(f"{head}  {_numbers(logs or {})}  {self._left()}", end="\n")

    def _bar(self, logs: dict[str, float]) -> str:
        step = self._progress.step
        epoch, within = divmod(step, self._steps_per_epoch)
        done = step / (self._steps_per_epoch * self._num_epochs)
        filled = int(done * _BAR_WIDTH)
        bar = "█" * filled + "·" * (_BAR_WIDTH - filled)
        place = f"epoch {epoch + 1}/{self._num_epochs} step {within}/{self._steps_per_epoch}"
        line = f"{bar} {done:4.0%}  {self._left()}  {place}  {_numbers(logs)}"
        # A line that wraps could not be overwritten.
        return line[: shutil.get_terminal_size().columns - 1]

    def _left(self) -> str:
        done = self._progress.step - (self._first_step or 0)
        left = self._steps_per_epoch * self._num_epochs - self._progress.step
        if left <= 0:
            return f"took {clock(self._progress.seconds)}"
        if done == 0:
            return "ETA unknown"
        return f"ETA {clock((time.monotonic() - self._started) / done * left)}"

    def _write(self, text: str, end: str = "") -> None:
        # \x1b[K removes what a longer line left behind.
        head = "\r\x1b[K" if self._is_terminal else ""
        print(f"{head}{text}", end=end, file=self._stream, flush=True)


def measuring(stream: TextIO | None = None) -> Callable[[int, int], None] | None:
    """Shows (done, total) images of a measurement in the bar's place; None off a terminal."""
    stream = stream or sys.stdout
    if not stream.isatty():
        return None

    def show(done: int, total: int) -> None:
        print(f"\r\x1b[Kmeasuring {done}/{total} images", end="", file=stream, flush=True)

    return show


def clock(seconds: float) -> str:
    """Seconds as people write them: 45 s, 3:20 min, 2:05 h."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"


_FORMATS = {
    "loss": "loss {:.4g}",
    "learning_rate": "rate {:.3g}",
    "gradient_norm": "gradient {:.3g}",
    "images_per_second": "{:.3g} images/s",
    "AP": "AP {:.3f}",
    "AP50": "AP50 {:.3f}",
}


def _numbers(logs: dict[str, Any]) -> str:
    parts = {k: f"{k.removesuffix('_loss')} {{:.4g}}" for k in logs if k.endswith("_loss")}
    formats = {"loss": _FORMATS["loss"], **parts, **_FORMATS}
    return "  ".join(form.format(logs[key]) for key, form in formats.items() if key in logs)
