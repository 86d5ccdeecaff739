"""Moving averages of a model's weights, the weights that are measured and exported."""

import contextlib
import math
from collections.abc import Iterator
from typing import Literal

import keras
import numpy as np
import tensorflow as tf


class MovingAverages:
    """Averages every weight of a model, batch-norm statistics included, with a ramp.

    After update n (from 1) each average moves by 1 - d of its distance to the weight. Keras's own
    average has no ramp and leaves the statistics out, with which the published models cannot be
    reproduced.

    Args:
        model: a built model.
        decay: the d that the ramp ends at.
        ramp: "fraction": d = min(decay, n / (9 + n)), as in TensorFlow's averages; "exponential":
            d = decay * (1 - exp(-n / 2000)), YOLO's.
    """

    def __init__(
        self,
        model: keras.Model,
        decay: float,
        ramp: Literal["fraction", "exponential"] = "fraction",
    ):
        self.decay = decay
        self.ramp = ramp
        self.weights = [v for v in model.weights if keras.backend.is_float_dtype(v.dtype)]
        # Plain variables on purpose: one copy, on the first device, however many replicas train.
        self.averages = [tf.Variable(read(v), trainable=False) for v in self.weights]

    def update(self, step: int) -> None:
        """Moves the averages after the optimizer's update `step`, counted from 0."""
        if self.ramp == "fraction":
            decay = min(self.decay, (1.0 + step) / (10.0 + step))
        else:
            decay = self.decay * -math.expm1(-(step + 1.0) / 2000.0)
        self._move(tf.constant(1.0 - decay, "float32"))

    @tf.function(autograph=False)
    def _move(self, share: tf.Tensor) -> None:
        for average, weight in zip(self.averages, self.weights, strict=True):
            value = tf.convert_to_tensor(weight.value)
            average.assign_add((value - average) * tf.cast(share, average.dtype))

    def keep(self) -> None:
        """Gives the model the averaged weights."""
        for weight, average in zip(self.weights, self.averages, strict=True):
            weight.assign(average.numpy())

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model has the averaged weights; afterwards its own, bit for bit."""
        own = [read(v) for v in self.weights]
        try:
            self.keep()
            yield
        finally:
            for weight, value in zip(self.weights, own, strict=True):
                weight.assign(value)


def read(variable: keras.Variable) -> np.ndarray:
    """The variable's value; under a strategy the value that all replicas agree on."""
    return np.asarray(tf.convert_to_tensor(variable.value))
