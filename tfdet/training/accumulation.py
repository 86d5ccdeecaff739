"""One optimizer update for several batches."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

# The base of what is mixed into an optimizer; to type checkers it may have any attribute.
Mixin: Any = object


class AccumulatedGradients(Mixin):
    """Adds up the gradients of some batches and updates the variables with the sum.

    Keras's own accumulation takes the mean over a fixed number of batches, and under a strategy its
    updates stand in a branch that TensorFlow refuses. Here the number may change from batch to
    batch, and variables of all strategies are updated.

    Learning rate and other schedules go by batches, `iterations` (and with it Adam's correction of
    its first steps) by updates. Gradient norms are measured, and clipped, batch by batch.

    Args:
        batches: how many batches an update takes, rounded, at least 1, as a schedule of the batches
            so far; None updates after each.
    """

    def __init__(self, *args: Any, batches: Any = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.batches = batches

    def build(self, variables: list[Any]) -> None:
        if not self.built and self.batches is not None:
            self.updates = self._counter("updates")
            self.pending = self._counter("pending_batches")
            self.sums = self.add_optimizer_variables(variables, "gradient_sum")
        super().build(variables)

    def _counter(self, name: str) -> keras.Variable:
        return self.add_variable(
            shape=(),
            dtype="int",
            initializer="zeros",
            aggregation="only_first_replica",
            name=name,
        )

    @property
    def iterations(self) -> Any:
        """Updates so far."""
        return super().iterations if self.batches is None or not self.built else self.updates

    def _distributed_tf_update_step(
        self, distribution: Any, grads_and_vars: list[Any], learning_rate: Any
    ) -> None:
        if self.batches is None:
            self._update(distribution, grads_and_vars, learning_rate)
            return
        variables = [variable for _, variable in grads_and_vars]
        sums = [self.sums[self._get_variable_index(variable)].value for variable in variables]
        for total, (gradient, _) in zip(sums, grads_and_vars, strict=True):
            distribution.extended.update(total, _add, args=(gradient,), group=False)
        pending = self.pending + 1
        wanted = ops.round(self.batches(self._iterations))
        is_due = pending >= ops.maximum(ops.cast(wanted, pending.dtype), 1)

        def update() -> None:
            self._update(distribution, list(zip(sums, variables, strict=True)), learning_rate)
            for total in sums:
                distribution.extended.update(total, _clear, group=False)
            self.updates.assign_add(1)

        ops.cond(is_due, update, lambda: None)
        self.pending.assign(ops.where(is_due, 0, pending))

    def _update(self, distribution: Any, grads_and_vars: list[Any], learning_rate: Any) -> None:
        """Moves the variables; in the context in which TensorFlow updates those of all replicas."""
        super()._distributed_tf_update_step(distribution, grads_and_vars, learning_rate)

    def get_config(self) -> dict[str, Any]:
        batches = keras.saving.serialize_keras_object(self.batches)
        return {**super().get_config(), "batches": batches}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        schedules = {
            name: keras.saving.deserialize_keras_object(value, custom_objects)
            for name, value in config.items()
            if isinstance(value, dict)
        }
        return super().from_config({**config, **schedules}, custom_objects)


def _add(total: tf.Variable, gradient: tf.Tensor) -> None:
    total.assign_add(tf.cast(gradient, total.dtype))


def _clear(total: tf.Variable) -> None:
    total.assign(tf.zeros_like(total))
