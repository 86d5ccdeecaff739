"""What happens around each step and epoch of `fit`; one callback per concern.

Their order matters: the step is counted first, measurements are added to the logs before they are
written down, and the state is saved after everything else of an epoch is done.
"""

import contextlib
import csv
import io
import json
import math
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any, TextIO

import keras
import numpy as np

from tfdet import files
from tfdet.errors import UserError
from tfdet.progress import Line, Pace, clock
from tfdet.training import averaging, checkpoint, stopping
from tfdet.training.board import Board
from tfdet.weights import stored

SCORE = "AP"
_BAR_WIDTH = 20
_ESTIMATE_SECONDS = 20.0  # of steps, after which their pace is known well enough
_FILES_NAMED = 8  # in the error's sentence; the report names all


class NonFiniteLoss(UserError):
    """Training produced a loss or a gradient that is not a number."""


class StepCounter(keras.callbacks.Callback):
    """Counts steps and adds learning rate, gradient norm and images/s to the logs.

    Args:
        progress: its `step` and `seconds` are kept up to date.
        batch_size: over all replicas.
    """

    def __init__(self, progress: checkpoint.Progress, batch_size: int):
        super().__init__()
        self._progress = progress
        self._batch_size = batch_size

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._steps, self._seconds, self._last = 0, 0.0, time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        now = time.monotonic()
        self._progress.step += 1
        self._progress.seconds += now - self._last
        if self._progress.step > 1:  # the first step builds the graph
            self._steps, self._seconds = self._steps + 1, self._seconds + now - self._last
        self._last = now
        self._measure(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self._measure(logs)

    def _measure(self, logs: dict[str, float]) -> None:
        optimizer = self.model.optimizer
        logs["learning_rate"] = float(optimizer.learning_rate)
        logs["gradient_norm"] = float(averaging.read(optimizer.gradient_norm))
        if self._seconds:
            logs["images_per_second"] = self._steps * self._batch_size / self._seconds


class NonFiniteStop(keras.callbacks.Callback):
    """Stops with the step, the part of the loss and the files, before anything is saved.

    Args:
        progress: of the run.
        steps_per_epoch: length of an epoch.
        files_of_step: names of the images of a step, counted from 0.
        report: file that gets the same facts; None in processes that write nothing.
    """

    def __init__(
        self,
        progress: checkpoint.Progress,
        steps_per_epoch: int,
        files_of_step: Callable[[int], list[str]],
        report: pathlib.Path | None,
    ):
        super().__init__()
        self._progress = progress
        self._steps_per_epoch = steps_per_epoch
        self._files_of_step = files_of_step
        self._report = report

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        # The logs are means over the epoch, which are finite exactly as long as every value was.
        broken = [name for name, value in logs.items() if not math.isfinite(value)]
        if not broken:
            return
        parts = [name for name in broken if name != "loss"] or broken
        step = self._progress.step - 1
        images = self._files_of_step(step)
        if self._report:
            facts = {"step": step, "parts": parts, "logs": logs, "files": images}
            files.write_text(self._report, json.dumps(facts, indent=2, default=str) + "\n")
        named = ", ".join(images[:_FILES_NAMED])
        more = f" and {len(images) - _FILES_NAMED} more" if images[_FILES_NAMED:] else ""
        raise NonFiniteLoss(
            f"{' and '.join(parts)} stopped being a finite number in step {step} "
            f"(epoch {step // self._steps_per_epoch + 1}) with {named}{more}; "
            f"{self._report or 'the chief'} has the facts, and the saved weights are untouched. "
            "Look at these files with tfdet-data check, or lower train.learning_rate"
        )


class Averaging(keras.callbacks.Callback):
    """Moves the averages after every update of the optimizer; a batch may come without one."""

    def __init__(self, averages: averaging.MovingAverages):
        super().__init__()
        self._averages = averages

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._updates = self._count()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        updates = self._count()
        if updates > self._updates:
            self._averages.update(updates - 1)
        self._updates = updates

    def _count(self) -> int:
        return int(averaging.read(self.model.optimizer.iterations))


class ProgressLine(keras.callbacks.Callback):
    """Shows how far the run is and when it will end: a bar, and a line of numbers per epoch.

    Where the output is not a terminal, one more line comes early in a long first epoch: with it the
    user sees how long the run will take.

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
        self._line, self._pace = Line(stream), Pace()
        self._begun, self._has_estimate = 0.0, self._line.is_terminal

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        if not self._begun:
            self._begun = time.monotonic()
        self._pace.start(self._progress.step)
        if self._line.is_due():
            self._line.show(self._bar(logs or {}))
        elif not self._has_estimate and time.monotonic() - self._begun >= _ESTIMATE_SECONDS:
            self._has_estimate = True
            self._line.finish(f"{self._place()}  {_numbers(logs or {})}  {self._left()}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self._has_estimate = True  # it is in this line
        head = f"epoch {epoch + 1}/{self._num_epochs}"
        self._line.finish(f"{head}  {_numbers(logs or {})}  {self._left()}")

    def _bar(self, logs: dict[str, float]) -> str:
        done = self._progress.step / (self._steps_per_epoch * self._num_epochs)
        filled = int(done * _BAR_WIDTH)
        bar = "█" * filled + "·" * (_BAR_WIDTH - filled)
        line = f"{bar} {done:4.0%}  {self._left()}  {self._place()}  {_numbers(logs)}"
        # A line that wraps could not be overwritten.
        return line[: shutil.get_terminal_size().columns - 1]

    def _place(self) -> str:
        epoch, within = divmod(self._progress.step, self._steps_per_epoch)
        return f"epoch {epoch + 1}/{self._num_epochs} step {within}/{self._steps_per_epoch}"

    def _left(self) -> str:
        total = self._steps_per_epoch * self._num_epochs
        if self._progress.step >= total:
            return f"took {clock(self._progress.seconds)}"
        return f"ETA {self._pace.left(self._progress.step, total) or 'unknown'}"


# What a line of numbers has behind the losses: the text, and the factor of the value. AP is shown
# from 0 to 100, as in the tables of tfdet-eval.
_FORMATS = {
    "AP": ("AP {:.1f}", 100),
    "AP50": ("AP50 {:.1f}", 100),
    "val_accuracy": ("accuracy {:.3f}", 1),
    "learning_rate": ("learning rate {:.3g}", 1),
    "gradient_norm": ("gradient norm {:.3g}", 1),
    "images_per_second": ("{:.3g} images/s", 1),
}


def _numbers(logs: dict[str, float]) -> str:
    losses = [f"{k.removesuffix('_loss')} {v:.4g}" for k, v in logs.items() if k.endswith("_loss")]
    parts = [f"loss {logs['loss']:.4g}"] if "loss" in logs else []
    if losses:
        parts.append(f"({', '.join(losses)})")
    measured = {key: logs[key] * factor for key, (_, factor) in _FORMATS.items() if key in logs}
    others = [_FORMATS[key][0].format(value) for key, value in measured.items()]
    return "  ".join([*([" ".join(parts)] if parts else []), *others])


class StateSaver(keras.callbacks.Callback):
    """Writes the state every so often, at the end of each epoch, and when a signal has come.

    The last step of an epoch is not saved by itself: a run that is killed while it measures does
    the steps since the last save again, and so never misses a measurement. The state before that
    step is kept in memory for a run that is stopped while it measures.

    Args:
        state: what is written.
        folder: where to; None in processes that write nothing.
        steps_per_epoch: length of an epoch.
        save_seconds: least time between two saves within an epoch; None saves at epoch ends only.
        signals: that stop the run; None where they end the process by themselves.
    """

    def __init__(
        self,
        state: checkpoint.TrainingState,
        folder: checkpoint.StateFolder | None,
        steps_per_epoch: int,
        save_seconds: float | None,
        signals: stopping.Signals | None = None,
    ):
        super().__init__()
        self._state = state
        self._folder = folder
        self._steps_per_epoch = steps_per_epoch
        self._save_seconds = save_seconds
        self._signals = signals
        self._saved = time.monotonic()
        self.saved_step = state.progress.step
        self._before_last: tuple[dict[str, np.ndarray], dict[str, Any]] | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._state.restore_metrics()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        left = -self._state.progress.step % self._steps_per_epoch
        if left == 0:
            return
        is_stopping = self._signals is not None and self._signals.is_received()
        is_due = self._save_seconds is not None and (
            time.monotonic() - self._saved >= self._save_seconds
        )
        if is_stopping or is_due:
            self._write(*self._state.capture())
        elif left == 1 and self._signals:
            self._before_last = self._state.capture()
        if self._signals:
            self._signals.check()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.model.reset_metrics()  # the next epoch must not begin with the means of this one
        self._before_last = None
        self._write(*self._state.capture())
        if self._signals:
            self._signals.check()

    def save_last(self) -> None:
        """Writes the newest state from which a run that was stopped resumes, if it is not there."""
        if self._before_last and self._before_last[1]["step"] > self.saved_step:
            self._write(*self._before_last)

    def _write(self, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        if self._folder:
            self._folder.write(facts["step"], arrays, facts)
        self._saved, self.saved_step = time.monotonic(), facts["step"]


class Measurement(keras.callbacks.Callback):
    """Measures the averaged weights every few epochs and keeps the last and the best of them.

    Args:
        kept: what is saved, the model that `fit` trains or the detector within it.
        progress: its `best_score` is kept up to date.
        averages: the moving averages, or None.
        model_dir: gets `last.weights.h5` and `best.weights.h5`; None in processes that write
            nothing and measure their share.
        measure: returns the scores of the model as it is, called with the epoch (from 1); None
            keeps the last weights only. The best are those of the highest `SCORE`, if that is among
            them.
        interval: epochs between two measurements; the last of `num_epochs` is measured anyway.
        prepare: called first, with the averages in the model; None does nothing.
        signals: that stop the run, within a measurement at once.
    """

    def __init__(
        self,
        kept: keras.Model,
        progress: checkpoint.Progress,
        averages: averaging.MovingAverages | None,
        model_dir: pathlib.Path | None,
        measure: Callable[[int], dict[str, float]] | None,
        interval: int,
        num_epochs: int,
        prepare: Callable[[], None] | None = None,
        signals: stopping.Signals | None = None,
    ):
        super().__init__()
        self._kept = kept
        self._prepare = prepare
        self._signals = signals or stopping.Signals()
        self._progress = progress
        self._averages = averages
        self._model_dir = model_dir
        self._measure = measure
        self._interval = interval
        self._num_epochs = num_epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if (epoch + 1) % self._interval and epoch + 1 != self._num_epochs:
            return
        averaged = self._averages.applied() if self._averages else contextlib.nullcontext()
        with self._signals.at_once(), averaged:
            self._measure_and_keep(epoch, logs)

    def _measure_and_keep(self, epoch: int, logs: dict[str, float]) -> None:
        if self._prepare:
            self._prepare()
        if self._model_dir:
            stored.save(self._kept, self._model_dir / "last.weights.h5")
        if self._measure is None:
            return
        scores = self._measure(epoch + 1)
        logs.update(scores)
        best = self._progress.best_score
        if SCORE in scores and (best is None or scores[SCORE] > best):
            if self._model_dir:
                stored.save(self._kept, self._model_dir / "best.weights.h5")
            self._progress.best_score = scores[SCORE]


class Journal(keras.callbacks.Callback):
    """Keeps one row per epoch: history.csv, history.jsonl, TensorBoard where installed, a curve.

    The files are written from the saved history each time, so that a restarted run neither
    repeats a row nor leaves one out.

    Args:
        progress: its `history` gets the rows.
        folder: where the files go.
        draw: called with the history after each epoch that was measured, and after the last.
        board: gets the numbers of each epoch.
    """

    def __init__(
        self,
        progress: checkpoint.Progress,
        folder: pathlib.Path,
        draw: Callable[[list[dict[str, float]]], None],
        board: Board,
    ):
        super().__init__()
        self._progress = progress
        self._folder = folder
        self._draw = draw
        self._board = board

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        row = {
            "epoch": epoch + 1,
            "step": self._progress.step,
            "seconds": round(self._progress.seconds, 1),
            **logs,
        }
        self._progress.history.append(row)
        write_history(self._folder, self._progress.history)
        self._board.scalars(epoch + 1, logs)
        if SCORE in logs:
            self._draw(self._progress.history)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self._progress.history:
            self._draw(self._progress.history)


def write_history(folder: pathlib.Path, history: list[dict[str, float]]) -> None:
    """Writes history.csv and history.jsonl; a CSV cell is empty where a row has no such value."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in history for name in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    files.write_text(folder / "history.csv", text.getvalue())
    lines = "".join(json.dumps(row) + "\n" for row in history)
    files.write_text(folder / "history.jsonl", lines)
