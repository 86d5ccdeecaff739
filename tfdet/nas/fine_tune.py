"""A short training of a student with its teacher: how a candidate of a search is looked at."""

import dataclasses
import math
from typing import Any

import keras

from tfdet import additions
from tfdet.config import TrainConfig
from tfdet.detectors.base import Detector
from tfdet.errors import UserError
from tfdet.nas.distill import Distilled
from tfdet.training import callbacks, fitting


def fine_tune(
    student: Detector, teacher: Detector | None, batches: Any, steps: int, settings: TrainConfig
) -> dict[str, float]:
    """Trains `student` in place; nothing of the teacher stays with it.

    Args:
        student: built, with the weights to start from.
        teacher: another two-stage detector, which is not changed; None for a training without.
        batches: at least `steps` batches (images, targets) of the student's size.
        steps: of the optimizer. The schedule of `settings` ends with the last one.
        settings: as of a recipe; an epoch means the whole training. `distill` has the weights of
            the loss terms, but names no teacher. With `ema_decay` the student ends with its
            averages. `deterministic` holds for the rest of the process. Images and device are the
            caller's business.

    Returns:
        The mean of the loss and of each term.
    """
    _check(settings)
    settings = dataclasses.replace(settings, num_epochs=1)
    fitting.prepare(settings)
    taught: Detector = student
    if teacher is not None:
        taught = Distilled(student, teacher, settings.additions["distill"])
    model = additions.wrapped(taught, settings.additions, settings.seed)
    fitting.compile_model(model, settings, steps, student.name)
    averages = fitting.make_averages(student, settings)
    chosen: list[keras.callbacks.Callback] = [keras.callbacks.TerminateOnNaN()]
    if averages:
        chosen.append(callbacks.Averaging(averages))
    history = model.fit(
        batches, steps_per_epoch=steps, callbacks=chosen, shuffle=False, verbose=0
    ).history
    means = {name: float(values[-1]) for name, values in history.items()}
    broken = [name for name, value in means.items() if not math.isfinite(value)]
    if broken:
        raise callbacks.NonFiniteLoss(
            f"{' and '.join(broken)} of {student.name} stopped being a finite number within "
            f"{steps} steps; lower the learning rate"
        )
    if averages:
        averages.keep()
    return means


def _check(settings: TrainConfig) -> None:
    for key, value in {
        "distill.teacher": settings.additions["distill"].teacher,
        "elastic": settings.additions["elastic"],
        "strategy": settings.strategy,
        "mixed_precision": settings.mixed_precision,
        "frozen": settings.frozen,
        "pretrained": settings.pretrained,
    }.items():
        if value:
            raise UserError(f"train.{key} cannot be used in a short training; leave it out")
