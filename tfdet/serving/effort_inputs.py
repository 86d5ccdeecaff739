"""What the signatures of a dynamic detector take beside images: a threshold, an effort."""

import dataclasses

import tensorflow as tf

from tfdet.detectors.calibration import EFFORTS, Calibration
from tfdet.detectors.dynamic import Dynamic

# The value of an input that leaves the choice to the other one, and in the end to the model.
NOT_GIVEN = -1.0
# Efforts are told apart to a millionth: 0.2 in float32 is 0.200000003, which would lie behind the
# score that is the threshold of 0.2.
_STEPS = 1e6


@dataclasses.dataclass(frozen=True)
class EffortInputs:
    """The inputs `threshold` and, of a calibrated detector, `effort` of a signature.

    An effort of 0 or more is what counts; else a threshold of 0 or more; else the model's own.

    Attributes:
        threshold: the model's own, the default of the input.
        thresholds: of each of `EFFORTS`, by the calibration; () without one.
        is_per_image: both may also have a value for each image [B]; otherwise they are scalars.
    """

    threshold: float
    thresholds: tuple[float, ...] = ()
    is_per_image: bool = False

    @classmethod
    def of(cls, model: Dynamic, calibration: Calibration | None) -> "EffortInputs":
        """What the signatures of `model` take."""
        thresholds = calibration.thresholds if calibration else ()
        return cls(model.threshold, thresholds, model.takes_threshold_per_image)

    @property
    def specs(self) -> tuple[tf.TensorSpec, ...]:
        """Of the inputs, by their names."""
        shape: list[int] | None = None if self.is_per_image else []
        return tuple(tf.TensorSpec(shape, tf.float32, name=name) for name in self.defaults)

    @property
    def defaults(self) -> dict[str, tf.Tensor]:
        """What TensorFlow Serving takes for an input that a request does not name."""
        effort = {"effort": tf.constant(NOT_GIVEN)} if self.thresholds else {}
        return {"threshold": tf.constant(self.threshold, tf.float32), **effort}

    def chosen(
        self, images: tf.Tensor, threshold: tf.Tensor, effort: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The threshold that the inputs come to for `images` [B, ...]: a scalar, or [B]."""
        if self.is_per_image:
            threshold = tf.broadcast_to(threshold, tf.shape(images)[:1])
        chosen = tf.where(threshold >= 0, threshold, self.threshold)
        return chosen if effort is None else tf.where(effort >= 0, self._of(effort), chosen)

    def _of(self, effort: tf.Tensor) -> tf.Tensor:
        """`Calibration.threshold_for` in a graph."""
        table = tf.constant(self.thresholds, tf.float64)
        last = len(EFFORTS) - 1
        effort = tf.clip_by_value(tf.cast(effort, tf.float64), 0.0, 1.0)
        place = tf.round(effort * _STEPS) * (last / _STEPS)
        row = tf.minimum(tf.cast(place, tf.int32), last - 1)
        least, most = tf.gather(table, row), tf.gather(table, row + 1)
        part = place - tf.cast(row, tf.float64)
        return tf.cast(least + part * (most - least), tf.float32)
