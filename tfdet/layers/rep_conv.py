"""RepVGG's convolution as YOLOv7 uses it: https://arxiv.org/abs/2101.03697."""

from typing import Any

import keras
import numpy as np

from tfdet.layers.batch_norm import Kind
from tfdet.layers.composite import Composite
from tfdet.layers.conv_bn import ConvBN, yolo_batch_norm
from tfdet.layers.folding import scale_and_shift
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class RepConv(Composite):
    """[B, H, W, C] to [B, H, W, filters]: SiLU(BN(3x3 conv) + BN(1x1 conv) + BN(identity)).

    The identity is there where C equals `filters`.

    Args:
        filters: output channels.
        batch_norm: kind of batch norm.
        merged: one 3x3 convolution with bias stands for all branches.
    """

    def __init__(
        self, filters: int, batch_norm: Kind = "plain", merged: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.batch_norm = batch_norm
        self.merged = merged
        self.dense = ConvBN(
            filters, 3, activation=None, batch_norm=batch_norm, merged=merged, name="dense"
        )
        self.pointwise = self.identity = None
        if not merged:
            self.pointwise = ConvBN(
                filters, 1, activation=None, batch_norm=batch_norm, name="pointwise"
            )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not self.merged and input_shape[-1] == self.filters:
            self.identity = yolo_batch_norm(self.batch_norm, "identity")
        super().build(input_shape)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        y = self.dense(x, training=training)
        for branch in (self.pointwise, self.identity):
            if branch is not None:
                y = y + branch(x, training=training)
        return keras.activations.silu(y)

    def merged_weights(self) -> list[np.ndarray]:
        """Kernel and bias of the merged form."""
        kernel, bias = self.dense.merged_weights()
        center, center_bias = self.pointwise.merged_weights()
        kernel[1, 1] += center[0, 0]
        bias += center_bias
        if self.identity is not None:
            scale, shift = scale_and_shift(self.identity)
            kernel[1, 1] += np.diag(scale)
            bias += shift
        return [kernel, bias]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "batch_norm": self.batch_norm,
            "merged": self.merged,
        }
