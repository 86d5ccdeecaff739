"""What training and pre-training share: a compiled model, and `fit` that resumes after a kill."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfdet import memory
from tfdet.config import TrainConfig
from tfdet.errors import Interrupted, UserError
from tfdet.training import averaging, board, callbacks, checkpoint, distribution, stopping
from tfdet.training import optimizer as optimizers
from tfdet.training.run_folder import RunFolder

LOGS_FOLDER = "logs"


@dataclasses.dataclass
class Fitting:
    """A model on its way through `fit`.

    Attributes:
        model: what `fit` is called on, compiled.
        settings: section `train` of the recipe.
        steps_per_epoch: of the training data.
        folder: of the run.
        averages: of the weights that are kept; None without.
        progress: how far it is.
    """

    model: keras.Model
    settings: TrainConfig
    steps_per_epoch: int
    folder: RunFolder
    averages: averaging.MovingAverages | None = None
    progress: checkpoint.Progress = dataclasses.field(default_factory=checkpoint.Progress)

    def __post_init__(self) -> None:
        self.state = checkpoint.TrainingState(self.model, self.averages, self.progress)
        self.signals = stopping.Signals(self._has_unsaved)
        self.saver = self._make_saver()

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.settings.num_epochs

    def resume(self) -> bool:
        """Goes to the newest saved state; False where there is none."""
        saved = self.folder.states.read()
        if saved:
            self.state.restore(*saved)
            if self.progress.step > self.total_steps:
                raise UserError(
                    f"the state in {self.folder.path} is of step {self.progress.step}, and the "
                    f"training has {self.total_steps}; it was begun with more epochs or images"
                )
            self.saver.saved_step = self.progress.step
        return saved is not None

    def fit(
        self,
        batches: Callable[[], Any],
        names: Callable[[int], list[str]],
        measurement: Callable[[board.Board | None], keras.callbacks.Callback],
        draw: Callable[[list[dict[str, float]]], None] = lambda history: None,
    ) -> None:
        """Keras's `fit`, from the step that `progress` has to the last one.

        Args:
            batches: gives the batches from that step on.
            names: of the images of a step, for the report of a loss that is no number.
            measurement: makes the callback that measures, given what shows its pictures; None in
                processes that write nothing.
            draw: is given the rows of all epochs when there is a new measurement.
        """
        chosen = self._callbacks(names, measurement, draw)
        if self.settings.strategy == "multi_worker":
            self._fit(batches, chosen)
            return
        try:
            with self.signals:
                self._fit(batches, chosen)
        except Interrupted as error:
            self.saver.save_last()
            raise Interrupted(self._where_stopped(), error.number) from None
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            if not memory.is_exhausted(error):
                raise
            sentence = f"a step of train.batch_size={self.settings.batch_size} does not fit into "
            raise UserError(f"{sentence}memory; {self._what_fits(batches)}") from None

    def _fit(self, batches: Callable[[], Any], chosen: list[keras.callbacks.Callback]) -> None:
        epoch, done = divmod(self.progress.step, self.steps_per_epoch)
        if done:  # a begun epoch gets a `fit` of its own
            self._fit_epochs(batches, chosen, epoch, epoch + 1, self.steps_per_epoch - done)
            epoch += 1
        if epoch < self.settings.num_epochs:
            end = self.settings.num_epochs
            self._fit_epochs(batches, chosen, epoch, end, self.steps_per_epoch)

    def _what_fits(self, batches: Callable[[], Any]) -> str:
        """The largest batch that a step fits into memory with, by trying."""
        other = "lower model.image_size or data.max_boxes"
        if self.settings.strategy:
            return f"lower it, or {other}"
        print("out of memory; trying smaller batches", flush=True)
        step = tf.function(self.model.train_step, reduce_retracing=True)

        def attempt(size: int) -> None:
            batch = next(iter(batches()))
            step(tf.nest.map_structure(lambda x: x[:size], batch))

        size = memory.largest_that_fits(attempt, self.settings.batch_size)
        if not size:
            return f"nor does one with a single image; {other}"
        scaled = (
            "is scaled with it"
            if self.settings.learning_rate_batch
            else ("is not scaled with it, so lower train.learning_rate too")
        )
        return f"{size} fits: give --batch_size={size} (the learning rate {scaled}), or {other}"

    def _where_stopped(self) -> str:
        step = self.saver.saved_step
        kept = f"the state of step {step} of {self.total_steps} is saved in {self.folder.path}"
        return (
            f"stopped; {kept if step else 'no step was done'}, and the same command "
            f"{'resumes there' if step else 'starts again'}"
        )

    def _has_unsaved(self) -> bool:
        return self.progress.step > self.saver.saved_step

    def _fit_epochs(
        self,
        batches: Callable[[], Any],
        chosen: list[keras.callbacks.Callback],
        first: int,
        end: int,
        steps: int,
    ) -> None:
        self.model.fit(
            batches(),
            initial_epoch=first,
            epochs=end,
            steps_per_epoch=steps,
            callbacks=chosen,
            shuffle=False,  # the pipeline has shuffled
            verbose=0,
        )

    def _make_saver(self) -> callbacks.StateSaver:
        states = self.folder.states if self.folder.is_writer else None
        if self.settings.strategy == "multi_worker":
            # Workers must save together, and their clocks differ.
            return callbacks.StateSaver(self.state, states, self.steps_per_epoch, None, None)
        seconds = self.settings.save_seconds
        return callbacks.StateSaver(self.state, states, self.steps_per_epoch, seconds, self.signals)

    def _callbacks(
        self,
        names: Callable[[int], list[str]],
        measurement: Callable[[board.Board | None], keras.callbacks.Callback],
        draw: Callable[[list[dict[str, float]]], None],
    ) -> list[keras.callbacks.Callback]:
        """In the order that `callbacks` explains; all measure, one process alone shows."""
        settings, progress, steps = self.settings, self.progress, self.steps_per_epoch
        writes, path = self.folder.is_writer, self.folder.path
        report = path / "non_finite.json" if writes else None
        chosen = [
            callbacks.StepCounter(progress, settings.batch_size),
            callbacks.NonFiniteStop(progress, steps, names, report),
        ]
        if self.averages:
            chosen.append(callbacks.Averaging(self.averages))
        if writes:
            logs = path / LOGS_FOLDER
            shown = board.Board(logs)
            chosen += [measurement(shown), callbacks.Journal(progress, logs, draw, shown)]
        else:
            chosen.append(measurement(None))
        chosen.append(self.saver)
        if writes:
            chosen.append(callbacks.ProgressLine(progress, steps, settings.num_epochs))
        return chosen


def where(strategy: tf.distribute.Strategy | None) -> str:
    """The line about what a run computes on, and when its length will be known."""
    return (
        f"running on {distribution.devices(strategy)}{distribution.unused_devices(strategy)}; the "
        "first step builds the graph, which takes up to a minute; then the time left (ETA) is shown"
    )


def prepare(settings: TrainConfig) -> None:
    """Sets seeds and determinism of the process; once, before anything is built."""
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(settings.seed)


def compile_model(
    model: keras.Model, settings: TrainConfig, steps_per_epoch: int, root: str
) -> None:
    """Compiles `model` with the optimizer of the recipe, with all of its variables.

    Args:
        model: what `fit` is called on.
        settings: section `train` of the recipe.
        steps_per_epoch: length of an epoch.
        root: name of the detector without what is added to its training, with which the paths of
            its variables begin.
    """
    optimizer = optimizers.make_optimizer(settings, steps_per_epoch, root)
    # XLA compiles for minutes and is slower than plain kernels for depthwise convolutions on CPUs.
    model.compile(optimizer=optimizer, jit_compile=False)
    optimizer.build(model.trainable_variables)  # of what `compile` has left to train


def make_averages(model: keras.Model, settings: TrainConfig) -> averaging.MovingAverages | None:
    """Averages of the model's weights as the recipe wants them; None where it wants none."""
    if not settings.ema_decay:
        return None
    return averaging.MovingAverages(model, settings.ema_decay, settings.ema_ramp)


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Within the block layers compute in `name` and keep float32 variables."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{name}" if name else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
