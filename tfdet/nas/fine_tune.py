"""A short training of a student with its teacher: how a candidate of a search is looked at."""

import dataclasses
import math
from typing import Any

import keras
import tensorflow as tf

from tfdet.config import TrainConfig
from tfdet.detectors.base import Detector
from tfdet.errors import UserError
from tfdet.training import additions, averaging, callbacks
from tfdet.training.optimizer import make_optimizer


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
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(settings.seed)
    model = additions.with_additions(student, settings, teacher)
    optimizer = make_optimizer(settings, steps, student.name)
    model.compile(optimizer=optimizer, jit_compile=False)
    optimizer.build(model.trainable_variables)
    chosen: list[keras.callbacks.Callback] = [keras.callbacks.TerminateOnNaN()]
    averages = None
    if settings.ema_decay:
        averages = averaging.MovingAverages(student, settings.ema_decay, settings.ema_ramp)
        chosen.append(callbacks.Averaging(averages))
    history = model.fit(
        batches, steps_per_epoch=steps, callbacks=chosen, shuffle=False, verbose=0
    ).history
    student.belongs_to(None)
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
        "distill.teacher": settings.distill.teacher,
        "elastic": settings.elastic,
        "strategy": settings.strategy,
        "mixed_precision": settings.mixed_precision,
        "frozen": settings.frozen,
        "pretrained": settings.pretrained,
    }.items():
        if value:
            raise UserError(f"train.{key} cannot be used in a short training; leave it out")
