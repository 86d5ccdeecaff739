"""Convolution, batch norm and activation, and their merged form for inference."""

from typing import Any

import keras
import numpy as np

from tfdet.layers.activation import activation as get_activation
from tfdet.layers.batch_norm import Kind, batch_norm
from tfdet.layers.composite import Composite
from tfdet.layers.folding import folded
from tfdet.layers.initializers import uniform_kernel
from tfdet.layers.symmetric import SymmetricConv2D
from tfdet.tensors import Tensor

# YOLOv7's; its own framework's default epsilon is 1e-5.
EPSILON = 1e-3
MOMENTUM = 0.97


@keras.saving.register_keras_serializable(package="tfdet")
class ConvBN(Composite):
    """[B, H, W, C] to [B, H / strides, W / strides, filters]: YOLO's "Conv".

    Padding is symmetric, which matters where the stride is 2.

    Args:
        filters: output channels.
        kernel_size: odd.
        strides: of the convolution.
        activation: its name, or None.
        batch_norm: kind of batch norm.
        merged: a convolution with bias stands for the convolution and its batch norm.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 1,
        strides: int = 1,
        activation: str | None = "silu",
        batch_norm: Kind = "plain",
        merged: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.activation = activation
        self.batch_norm = batch_norm
        self.merged = merged
        self.conv = SymmetricConv2D(
            filters,
            kernel_size,
            strides,
            use_bias=merged,
            kernel_initializer=uniform_kernel(),
            name="conv",
        )
        self.bn = None if merged else yolo_batch_norm(batch_norm, "bn")

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x, training=training)
        return x if self.activation is None else get_activation(self.activation)(x)

    def merged_weights(self) -> list[np.ndarray]:
        """Kernel and bias of the merged form."""
        return list(folded(self.conv, self.bn))

    def get_config(self) -> dict[str, Any]:
        names = ("filters", "kernel_size", "strides", "activation", "batch_norm", "merged")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def yolo_batch_norm(kind: Kind, name: str) -> keras.layers.Layer:
    """A batch norm with YOLOv7's epsilon and momentum."""
    return batch_norm(kind, name, epsilon=EPSILON, momentum=MOMENTUM)
