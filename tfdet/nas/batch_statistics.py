"""Statistics of batch norms, recomputed from images."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from tfdet.detectors.base import Detector
from tfdet.errors import UserError
from tfdet.layers import batch_norm


class Recording(batch_norm.Hook):
    """Keeps the statistics of each batch, and the moving statistics as they are.

    Attributes:
        rows: (layer, mean [C], biased variance [C]) of each batch norm, in their order.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[keras.layers.Layer, tf.Tensor, tf.Tensor]] = []

    def moves(self, layer: keras.layers.Layer, mean: tf.Tensor, variance: tf.Tensor) -> bool:
        self.rows.append((layer, mean, variance))
        return False


def recompute(model: Detector, batches: Iterable[Any]) -> None:
    """Gives all trained batch norms the mean and the variance of what they see in `batches`.

    Each batch is normalised by its own statistics, as in training; images count alike. Subnets
    share the weights of a super-network, but each has statistics of its own.

    Args:
        model: a built detector, not frozen.
        batches: (images, targets), all of the same size.
    """
    layers: list[Any] = []

    @tf.function(autograph=False)
    def moments(images: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        recording = Recording()
        with batch_norm.hooked(recording):
            model(images, training=True)
        layers[:] = [layer for layer, _, _ in recording.rows]
        return [(mean, variance + tf.square(mean)) for _, mean, variance in recording.rows]

    totals: list[Any] = []
    count = 0
    for images, _ in batches:
        share = int(images.shape[0])
        count += share
        found = tf.nest.map_structure(lambda x, n=share: x.numpy() * n, moments(images))
        totals = tf.nest.map_structure(lambda a, b: a + b, totals, found) if totals else found
    if not count:
        raise UserError("batch norms cannot be measured: there are no images")
    if not layers:
        raise UserError(
            f"{model.name} has no batch norm that is trained; set model.batch_norm to plain or "
            "synchronized, and frozen_stages to 0"
        )
    _assign(layers, totals, count)


def _assign(layers: list[Any], totals: list[Any], count: int) -> None:
    """Moments of a layer that ran several times in a batch are averaged."""
    for layer in dict.fromkeys(layers):
        own = [total for other, total in zip(layers, totals, strict=True) if other is layer]
        mean, square = (sum(values) / (count * len(own)) for values in zip(*own, strict=True))
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(square - mean**2)
