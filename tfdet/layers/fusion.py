"""Weighted sums of feature maps."""

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from tfdet.tensors import Tensor

Method = Literal["fast", "softmax", "sum", "unbounded", "channel_fast", "channel_softmax"]
METHODS = ("fast", "softmax", "sum", "unbounded", "channel_fast", "channel_softmax")

# Keeps the fast fusion finite when all its weights are negative; the reference's value.
_EPSILON = 1e-4


@keras.saving.register_keras_serializable(package="tfdet")
class Fusion(keras.layers.Layer):
    """Fuses maps of one shape [B, H, W, C] into one, with learned weights that start at 1.

    - "fast": relu(w_i) / (sum_j relu(w_j) + 1e-4), the fast normalised fusion of the paper;
    - "softmax": softmax over the weights;
    - "unbounded": the weights as they are;
    - "sum": no weights;
    - "channel_fast", "channel_softmax": the same with a weight per channel.

    Paper: https://arxiv.org/abs/1911.09070, section 3.3.

    Args:
        method: one of the names above.
    """

    def __init__(self, method: Method = "fast", **kwargs: Any):
        super().__init__(**kwargs)
        if method not in METHODS:
            raise ValueError(f"fusion must be one of {', '.join(METHODS)}; got {method!r}")
        self.method = method
        self.fusion_weights: list[keras.Variable] = []

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        shape = (input_shape[0][-1],) if self.method.startswith("channel_") else ()
        count = 0 if self.method == "sum" else len(input_shape)
        # Kept in float32: in float16 the epsilon would be lost beside the weights.
        self.fusion_weights = [
            self.add_weight(
                name=f"WSM_{i}" if i else "WSM", shape=shape, initializer="ones", autocast=False
            )
            for i in range(count)
        ]

    def call(self, maps: list[Tensor], factors: list[Tensor] | None = None) -> Tensor:
        """`factors` of the maps may be given, see `factors_of`; none are while a cell is built."""
        if self.method != "sum":
            factors = factors or factors_of([self])[0]
            maps = [ops.cast(f, m.dtype) * m for f, m in zip(factors, maps, strict=True)]
        return sum(maps[1:], start=maps[0])

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple:
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "method": self.method}


def factors_of(fusions: Sequence[Fusion]) -> list[list[Any]]:
    """What each fusion multiplies its inputs with, float32 scalars or [C].

    All at once, since a training step has many small fusions. They have one method; "sum" has no
    factors.
    """
    counts = [len(fusion.fusion_weights) for fusion in fusions]
    if not any(counts):
        return [[] for _ in fusions]
    method = fusions[0].method
    weights = ops.stack([w.value for fusion in fusions for w in fusion.fusion_weights])  # [M, ...]
    number = np.repeat(np.arange(len(fusions)), counts)
    own = (number[:, None] == number).astype("float32")  # whose sums are those of a fusion
    own = own.reshape(*own.shape, *[1] * (len(weights.shape) - 1))
    if method.endswith("softmax"):
        largest = ops.max(ops.where(own > 0, weights, -np.inf), axis=1)
        weights = ops.exp(weights - ops.stop_gradient(largest))
        weights = weights / ops.sum(own * weights, axis=1)
    elif method.endswith("fast"):
        weights = ops.relu(weights)
        weights = weights / (ops.sum(own * weights, axis=1) + _EPSILON)
    factors = iter(ops.unstack(weights, axis=0))
    return [list(itertools.islice(factors, count)) for count in counts]
