"""Learning-rate schedules of the published recipes."""

import math
from typing import Any

import keras
from keras import ops

from tfdet.config import TrainConfig


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A line from `warmup_init` to `aim`, or a step, then what the subclass's `decayed` gives.

    Args:
        peak: highest rate.
        total_steps: length of the training.
        warmup_steps: length of the line.
        warmup_init: rate at step 0 when there is a warm-up.
        warmup_rises: False keeps `warmup_init` until the warm-up ends.
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        warmup_steps: int = 0,
        warmup_init: float = 0.0,
        warmup_rises: bool = True,
    ):
        super().__init__()
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.warmup_init = warmup_init
        self.warmup_rises = warmup_rises

    def decayed(self, step: Any) -> Any:
        """Rate at `step`, a float scalar, after the warm-up."""
        raise NotImplementedError

    def aim(self, step: Any) -> Any:
        """Where the line of the warm-up ends, as seen at `step`."""
        return self.peak

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        share = step / max(self.warmup_steps, 1) if self.warmup_rises else 0.0
        rising = self.warmup_init + share * (self.aim(step) - self.warmup_init)
        return ops.where(step < self.warmup_steps, rising, self.decayed(step))

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "warmup_init": self.warmup_init,
            "warmup_rises": self.warmup_rises,
        }


@keras.saving.register_keras_serializable(package="tfdet")
class Constant(WarmUp):
    """The peak rate after the warm-up."""

    def decayed(self, step: Any) -> Any:
        return ops.full_like(step, self.peak)


@keras.saving.register_keras_serializable(package="tfdet")
class HalfCosine(WarmUp):
    """Half a cosine wave from the peak at the end of the warm-up to 0 at the end of the training.

    It falls in runs of any length: a warm-up that would leave no time for it takes half of the run.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        if self.warmup_steps >= self.total_steps:
            self.warmup_steps = self.total_steps // 2

    def decayed(self, step: Any) -> Any:
        length = max(self.total_steps - self.warmup_steps, 1)
        done = ops.clip((step - self.warmup_steps) / length, 0.0, 1.0)
        return 0.5 * self.peak * (1.0 + ops.cos(math.pi * done))


@keras.saving.register_keras_serializable(package="tfdet")
class Cosine(WarmUp):
    """Half a cosine wave from the peak to 0, as EfficientDet's code has it.

    The wave is counted from step 0 and is `total_steps - warmup_steps` long: the rate drops a
    little at the end of the warm-up, and turns up again in the last `warmup_steps`. That is to
    about 1e-6 with 300 epochs and one of warm-up; a short run ends near its peak.
    """

    def decayed(self, step: Any) -> Any:
        length = max(self.total_steps - self.warmup_steps, 1)
        return 0.5 * self.peak * (1.0 + ops.cos(math.pi * step / length))


@keras.saving.register_keras_serializable(package="tfdet")
class EpochCosine(WarmUp):
    """Half a cosine wave from the peak to `last_share` of it, in steps of an epoch (YOLO's).

    The wave begins in epoch 0, and the warm-up rises to where it is in the epoch; the last epoch is
    a little above the end. The warm-up may also fall, from a `warmup_init` above the peak.
    """

    def __init__(self, steps_per_epoch: int = 1, last_share: float = 0.1, **kwargs: Any):
        super().__init__(**kwargs)
        self.steps_per_epoch = steps_per_epoch
        self.last_share = last_share

    def decayed(self, step: Any) -> Any:
        epoch = ops.floor(step / self.steps_per_epoch)
        wave = 0.5 * (1.0 - ops.cos(math.pi * epoch * self.steps_per_epoch / self.total_steps))
        return self.peak * (1.0 + wave * (self.last_share - 1.0))

    def aim(self, step: Any) -> Any:
        return self.decayed(step)

    def get_config(self) -> dict[str, Any]:
        own = {"steps_per_epoch": self.steps_per_epoch, "last_share": self.last_share}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="tfdet")
class Stepwise(WarmUp):
    """The peak rate, divided by 10 at each of `decay_steps`."""

    def __init__(self, decay_steps: tuple[int, ...] = (), **kwargs: Any):
        super().__init__(**kwargs)
        self.decay_steps = tuple(decay_steps)

    def decayed(self, step: Any) -> Any:
        rate = ops.full_like(step, self.peak)
        for i, decay_step in enumerate(self.decay_steps):
            rate = ops.where(step >= decay_step, self.peak * 0.1 ** (i + 1), rate)
        return rate

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay_steps": self.decay_steps}


@keras.saving.register_keras_serializable(package="tfdet")
class Polynomial(WarmUp):
    """`peak * (1 - step / total_steps) ** power`."""

    def __init__(self, power: float = 0.9, **kwargs: Any):
        super().__init__(**kwargs)
        self.power = power

    def decayed(self, step: Any) -> Any:
        left = ops.clip(1.0 - step / self.total_steps, 0.0, 1.0)
        return self.peak * ops.power(left, self.power)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power": self.power}


def make_schedule(
    config: TrainConfig, steps_per_epoch: int, warmup_init: float | None = None
) -> WarmUp:
    """The learning rate that a recipe's `train` section asks for, scaled to its batch size.

    Args:
        config: the section.
        steps_per_epoch: length of an epoch.
        warmup_init: rate at step 0, not scaled; None for the section's.
    """
    scale = config.batch_size / config.learning_rate_batch if config.learning_rate_batch else 1.0
    common: dict[str, Any] = {
        "peak": config.learning_rate * scale,
        "total_steps": config.num_epochs * steps_per_epoch,
        "warmup_steps": _warmup_steps(config, steps_per_epoch),
        # Unscaled, 0.008 would exceed the peak for batches of up to 6: a falling "warm-up".
        "warmup_init": config.warmup_init * scale if warmup_init is None else warmup_init,
        "warmup_rises": config.warmup == "linear",
    }
    if config.schedule == "half_cosine":
        return HalfCosine(**common)
    if config.schedule == "efficientdet_cosine":
        return Cosine(**common)
    if config.schedule == "epoch_cosine":
        return EpochCosine(steps_per_epoch, config.last_share, **common)
    if config.schedule == "stepwise":
        steps = tuple(int(epoch * steps_per_epoch) for epoch in config.decay_epochs)
        return Stepwise(decay_steps=steps, **common)
    if config.schedule == "polynomial":
        return Polynomial(power=config.polynomial_power, **common)
    return Constant(**common)


def make_momentum(config: TrainConfig, steps_per_epoch: int) -> WarmUp:
    """The momentum that a recipe's `train` section asks for."""
    init = config.momentum_warmup_init
    return _constant_after_warmup(
        config, steps_per_epoch, config.momentum if init is None else init, config.momentum
    )


def make_accumulation(config: TrainConfig, steps_per_epoch: int) -> WarmUp | None:
    """How many batches an update takes, not rounded; None where it is always one."""
    if batches_per_update(config) == 1:
        return None
    peak = config.accumulate_batch / config.batch_size
    return _constant_after_warmup(config, steps_per_epoch, 1.0, peak)


def batches_per_update(config: TrainConfig) -> int:
    """How many batches an update takes after the warm-up."""
    return max(round(config.accumulate_batch / config.batch_size), 1)


def _constant_after_warmup(
    config: TrainConfig, steps_per_epoch: int, warmup_init: float, peak: float
) -> Constant:
    return Constant(
        peak=peak,
        total_steps=config.num_epochs * steps_per_epoch,
        warmup_steps=_warmup_steps(config, steps_per_epoch),
        warmup_init=warmup_init,
        warmup_rises=config.warmup == "linear",
    )


def _warmup_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    return max(int(config.warmup_epochs * steps_per_epoch), config.warmup_steps)
