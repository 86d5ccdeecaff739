"""Optimizers whose gradients are summed over replicas, measured and clipped, in this order."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfdet.training import schedules

# How the names of biases end; "beta" is that of a norm.
_BIASES = ("bias", "beta")


class ClippedGradients:
    """Clips each gradient to a norm, then all of them together; keeps the norm before clipping.

    Keras's own clipping looks at one replica's gradients and knows one of the two rules only. Here
    the sum over replicas is clipped, so that two replicas step exactly as one with both batches.

    Args:
        clip_norm: the norm; 0 clips nothing.
        bias_factor: gradients of biases, those of norms too, are multiplied by it after clipping.
            With SGD this is a learning rate of their own.
    """

    def __init__(self, *args: Any, clip_norm: float = 0.0, bias_factor: float = 1.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.clip_norm = clip_norm
        self.bias_factor = bias_factor

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
        variables = [variable for _, variable in reduced]
        if self.bias_factor != 1.0:
            gradients = [
                gradient * self.bias_factor if _is_bias(variable) else gradient
                for gradient, variable in zip(gradients, variables, strict=True)
            ]
        return list(zip(gradients, variables, strict=True))

    def get_config(self) -> dict[str, Any]:
        own = {"clip_norm": self.clip_norm, "bias_factor": self.bias_factor}
        return {**super().get_config(), **own}


def _is_bias(variable: Any) -> bool:
    # Keras hands over TensorFlow's variables, whose names end in ":0".
    return variable.name.partition(":")[0].endswith(_BIASES)


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
    ours = {"clip_norm": config.clip_gradients_norm, "bias_factor": config.bias_factor}
    if config.optimizer == "adam":
        optimizer = Adam(schedule, beta_1=config.momentum, **ours)
    else:
        optimizer = SGD(schedule, momentum=config.momentum, **ours)
    return LossScaling(optimizer) if config.mixed_precision == "float16" else optimizer
