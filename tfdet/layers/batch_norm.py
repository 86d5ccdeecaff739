"""Batch normalisation as every network of the garden uses it."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import keras
from keras import ops

Kind = Literal["plain", "synchronized", "frozen"]

_state = threading.local()


@contextlib.contextmanager
def no_updates() -> Iterator[None]:
    """Within it, batch norms leave their moving statistics alone."""
    outer = getattr(_state, "is_off", False)
    _state.is_off = True
    try:
        yield
    finally:
        _state.is_off = outer


@contextlib.contextmanager
def masked(masks: Mapping[keras.layers.Layer, Any]) -> Iterator[None]:
    """Within it, these batch norms give 0 in the channels where their mask [C] is 0, not 1.

    The other channels compute what they would if the masked ones did not exist.
    """
    outer = getattr(_state, "masks", {})
    _state.masks = {**outer, **masks}
    try:
        yield
    finally:
        _state.masks = outer


@contextlib.contextmanager
def recording() -> Iterator[list[tuple[keras.layers.Layer, Any, Any]]]:
    """Within it, the statistics of each batch are put into the list that it gives.

    A row is (layer, mean [C], biased variance [C]); the moving statistics are left alone.
    """
    outer = getattr(_state, "records", None)
    _state.records = []
    try:
        with no_updates():
            yield _state.records
    finally:
        _state.records = outer


def batch_norm(kind: Kind, name: str, **kwargs: Any) -> keras.layers.Layer:
    """A batch norm layer.

    Args:
        kind: "plain" uses the statistics of one replica's batch; "synchronized" those of all
            replicas; "frozen" always uses the moving statistics, and nothing of it is trained.
        name: of the layer.
        **kwargs: go to `keras.layers.BatchNormalization`.
    """
    if kind not in ("plain", "synchronized", "frozen"):
        raise ValueError(
            f"batch_norm must be 'plain', 'synchronized' or 'frozen'; got {kind!r} for {name}"
        )
    is_synchronized = kind == "synchronized"
    layer = BatchNormalization(synchronized=is_synchronized, name=name, **kwargs)
    layer.trainable = kind != "frozen"
    return layer


def pytorch_batch_norm(kind: Kind, name: str) -> keras.layers.Layer:
    """A batch norm with PyTorch's defaults."""
    return batch_norm(kind, name, epsilon=1e-5, momentum=0.9)


@keras.saving.register_keras_serializable(package="tfdet")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch norm on [B, H, W, C], with TensorFlow's fused operation in training.

    Keras 3 computes it from single operations. On two CPU cores the fused one makes a training step
    of D0 take a sixth less time and its first step, which traces and compiles, a quarter less.
    Statistics are Keras's (biased variance).
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        mask = getattr(_state, "masks", {}).get(self)
        if not (training and self.trainable):
            outputs = super().call(inputs, training=training)
            return outputs if mask is None else outputs * ops.cast(mask, outputs.dtype)
        is_fused = keras.backend.backend() == "tensorflow" and not self.synchronized
        run = self._fused if is_fused else self._unfused
        scales = self.gamma.value, self.beta.value
        if mask is not None:
            scales = tuple(scale * ops.cast(mask, scale.dtype) for scale in scales)
        outputs, mean, variance = run(inputs, *scales)
        if getattr(_state, "records", None) is not None:
            _state.records.append((self, mean, variance))
        if not getattr(_state, "is_off", False):
            self._update(self.moving_mean, mean)
            self._update(self.moving_variance, variance)
        return ops.cast(outputs, self.compute_dtype)

    def _fused(self, inputs: Any, gamma: Any, beta: Any) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        # The operation returns the unbiased variance, and normalises with the biased one.
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        return outputs, mean, variance * ((count - 1.0) / count)

    def _unfused(self, inputs: Any, gamma: Any, beta: Any) -> tuple[Any, Any, Any]:
        inputs = ops.cast(inputs, "float32")
        mean, variance = self._moments(inputs, None)
        outputs = ops.batch_normalization(
            inputs,
            mean,
            variance,
            self.axis,
            offset=beta,
            scale=gamma,
            epsilon=self.epsilon,
        )
        return outputs, mean, variance

    def _update(self, moving: keras.Variable, value: Any) -> None:
        moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
