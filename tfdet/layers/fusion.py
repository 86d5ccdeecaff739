"""Weighted sums of feature maps."""

from typing import Any, Literal

import keras
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

    def call(self, maps: list[Tensor]) -> Tensor:
        if self.method == "sum":
            return sum(maps[1:], start=maps[0])
        weights = self.normalized_weights()
        return sum(ops.cast(w, m.dtype) * m for w, m in zip(weights, maps, strict=True))

    def normalized_weights(self) -> list[Any]:
        """The factor of each input, float32 scalars or [C]."""
        weights = ops.stack([weight.value for weight in self.fusion_weights])
        if self.method.endswith("softmax"):
            weights = ops.softmax(weights, axis=0)
        elif self.method.endswith("fast"):
            weights = ops.relu(weights)
            weights = weights / (ops.sum(weights, axis=0, keepdims=True) + _EPSILON)
        return ops.unstack(weights, axis=0)

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple:
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "method": self.method}
