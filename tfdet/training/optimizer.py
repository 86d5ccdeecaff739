"""Optimizers whose gradients are summed over replicas, measured and clipped, in this order."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfdet.training import schedules


class ClippedGradients:
    """Clips each gradient to a norm, then all of them together; keeps the norm before clipping.

    Keras's own clipping looks at one replica's gradients and knows one of the two rules only. Here
    the sum over replicas is clipped, so that two replicas step exactly as one with both batches.

    Args:
        clip_norm: the norm; 0 clips nothing.
    """

    def __init__(self, *args: Any, clip_norm: float = 0.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.clip_norm = clip_norm

    def build(self, variables: list[Any]) -> None:
        if not self.built:
            self.gradient_norm = self.add_variable(
                shape=(),
                dtype="float32",
                aggregation="only_first_replica",
                name="gradient_norm",
            )
        super().build(variables)

    def _all_reduce_sum_gradients(self, grads_and_vars: list[Any]) -> list[Any]:
        reduced = super()._all_reduce_sum_gradients(grads_and_vars)
        gradients = [gradient for gradient, _ in reduced]
        self.gradient_norm.assign(tf.linalg.global_norm(gradients))
        if self.clip_norm > 0:
            gradients = [tf.clip_by_norm(gradient, self.clip_norm) for gradient in gradients]
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm)
        return list(zip(gradients, (variable for _, variable in reduced), strict=True))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "clip_norm": self.clip_norm}


@keras.saving.register_keras_serializable(package="tfdet")
class SGD(ClippedGradients, keras.optimizers.SGD):
    """Keras's SGD with `ClippedGradients`."""


@keras.saving.register_keras_serializable(package="tfdet")
class Adam(ClippedGradients, keras.optimizers.Adam):
    """Keras's Adam with `ClippedGradients`."""


@keras.saving.register_keras_serializable(package="tfdet")
class LossScaling(keras.optimizers.LossScaleOptimizer):
    """Dynamic loss scaling that skips a step when any replica's gradients are not finite.

    Keras 3.15 asks the first replica only, before the gradients are summed; an overflow on another
    replica would then reach the weights.
    """

    def check_finite(self, grads: list[Any]) -> Any:
        broken = ops.cast(ops.logical_not(super().check_finite(grads)), "float32")
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            broken = context.all_reduce(tf.distribute.ReduceOp.SUM, broken)
        return ops.equal(broken, 0.0)

    @property
    def gradient_norm(self) -> Any:
        return self.inner_optimizer.gradient_norm


def make_optimizer(config: Any, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer that a recipe's `train` section asks for."""
    schedule = schedules.make_schedule(config, steps_per_epoch)
    if config.optimizer == "adam":
        optimizer = Adam(schedule, beta_1=config.momentum, clip_norm=config.clip_gradients_norm)
    else:
        optimizer = SGD(schedule, momentum=config.momentum, clip_norm=config.clip_gradients_norm)
    return LossScaling(optimizer) if config.mixed_precision == "float16" else optimizer
