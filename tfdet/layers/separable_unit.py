"""The separable convolution that MobileNet-v1 and CADDet's grid are made of."""

from typing import Any

import keras

from tfdet.layers.batch_norm import Kind, pytorch_batch_norm
from tfdet.layers.batch_norm import batch_norm as tensorflow_batch_norm
from tfdet.layers.composite import Composite
from tfdet.layers.convolution import DepthwiseConv2D
from tfdet.layers.folding import normed
from tfdet.layers.initializers import FAN_OUT_NORMAL
from tfdet.layers.symmetric import SymmetricDepthwiseConv2D
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class SeparableUnit(Composite):
    """Depthwise 3x3, pointwise 1x1, batch norm, ReLU: [B, H, W, C] to [B, H', W', filters].

    H' is H / strides, rounded up. No biases.

    Args:
        filters: output channels.
        strides: of the depthwise convolution.
        relu: whether there is a ReLU at the end.
        inner_norm: a batch norm and a ReLU between the two convolutions too (MobileNet-v1).
        batch_norm: kind of batch norm.
        is_keras: TensorFlow's padding and epsilon, and ReLU6, as in `keras.applications`, instead
            of symmetric padding, PyTorch's epsilon and ReLU.
    """

    def __init__(
        self,
        filters: int,
        strides: int = 1,
        relu: bool = True,
        inner_norm: bool = False,
        batch_norm: Kind = "plain",
        is_keras: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.relu = relu
        self.inner_norm = inner_norm
        self.batch_norm = batch_norm
        self.is_keras = is_keras
        self.act = keras.activations.relu6 if is_keras else keras.activations.relu
        norm = tensorflow_batch_norm if is_keras else pytorch_batch_norm
        # "same" is symmetric where the stride is 1, and faster than padding first.
        is_same = strides == 1 or is_keras
        depthwise = DepthwiseConv2D if is_same else SymmetricDepthwiseConv2D
        self.depthwise = depthwise(
            3,
            strides=strides,
            padding="same",
            use_bias=False,
            depthwise_initializer=FAN_OUT_NORMAL,
            name="depthwise",
        )
        self.depthwise_bn = norm(batch_norm, "depthwise_bn") if inner_norm else None
        self.pointwise = pointwise(filters, 1, "pointwise")
        self.bn = norm(batch_norm, "bn")

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        x = normed(self.depthwise, self.depthwise_bn, x, training)
        if self.inner_norm:
            x = self.act(x)
        x = normed(self.pointwise, self.bn, x, training)
        return self.act(x) if self.relu else x

    def get_config(self) -> dict[str, Any]:
        names = ("filters", "strides", "relu", "inner_norm", "batch_norm", "is_keras")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def pointwise(filters: int, strides: int, name: str) -> keras.layers.Conv2D:
    """A 1x1 convolution without bias; with a stride it gives ceil(n / strides) cells."""
    return keras.layers.Conv2D(
        filters, 1, strides, use_bias=False, kernel_initializer=FAN_OUT_NORMAL, name=name
    )
