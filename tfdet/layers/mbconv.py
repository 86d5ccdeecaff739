"""The inverted bottleneck of MobileNetV2 and EfficientNet."""

from typing import Any

import keras
from keras import ops

from tfdet.layers.activation import activation as get_activation
from tfdet.layers.batch_norm import Kind, batch_norm
from tfdet.layers.composite import Composite, checkpointed
from tfdet.layers.convolution import Conv2D, DepthwiseConv2D
from tfdet.layers.initializers import FAN_OUT_NORMAL
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class MBConv(Composite):
    """Expand, depthwise convolution, squeeze and excite, project, and a residual where it fits.

    Args:
        filters: output channels.
        kernel_size: of the depthwise convolution.
        strides: of the depthwise convolution.
        expand: the inner width is the input's width times this; 1 leaves the expansion out.
        se_ratio: width of the squeeze relative to the block's *input*; 0 for none.
        drop_rate: probability that the branch is dropped for an image in training.
        activation: name of the activation.
        batch_norm: kind of batch norm.
        gradient_checkpointing: compute the branch again for its gradient.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        strides: int = 1,
        expand: int = 6,
        se_ratio: float = 0.25,
        drop_rate: float = 0.0,
        activation: str = "swish",
        batch_norm: Kind = "plain",
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.expand = expand
        self.se_ratio = se_ratio
        self.drop_rate = drop_rate
        self.activation = activation
        self.batch_norm = batch_norm
        self.gradient_checkpointing = gradient_checkpointing

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = input_shape[-1]
        self.act = get_activation(self.activation)
        self.has_residual = self.strides == 1 and width == self.filters
        self.expand_conv = self.se = self.drop = None
        if self.expand != 1:
            self.expand_conv = conv1x1(width * self.expand, name="expand_conv")
            self.expand_bn = batch_norm(self.batch_norm, name="expand_bn")
        self.depthwise_conv = DepthwiseConv2D(
            self.kernel_size,
            self.strides,
            padding="same",
            use_bias=False,
            depthwise_initializer=FAN_OUT_NORMAL,
            name="depthwise_conv",
        )
        self.depthwise_bn = batch_norm(self.batch_norm, name="depthwise_bn")
        if self.se_ratio:
            squeezed = max(1, int(width * self.se_ratio))
            self.se = SqueezeExcite(squeezed, self.activation, name="se")
        self.project_conv = conv1x1(self.filters, name="project_conv")
        self.project_bn = batch_norm(self.batch_norm, name="project_bn")
        if self.has_residual and self.drop_rate:
            self.drop = keras.layers.Dropout(self.drop_rate, (None, 1, 1, 1), name="drop")
        super().build(input_shape)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        def branch(x: Tensor) -> Any:
            return self._branch(x, training)

        y = checkpointed(branch, x) if self.gradient_checkpointing and training else branch(x)
        if not self.has_residual:
            return y
        # Outside the checkpointed part, so that one mask serves both of its runs.
        if self.drop is not None:
            y = self.drop(y, training=training)
        return x + y

    def _branch(self, x: Tensor, training: bool | None) -> Any:
        if self.expand_conv is not None:
            x = self.act(self.expand_bn(self.expand_conv(x), training=training))
        x = self.act(self.depthwise_bn(self.depthwise_conv(x), training=training))
        if self.se is not None:
            x = self.se(x)
        return self.project_bn(self.project_conv(x), training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "expand": self.expand,
            "se_ratio": self.se_ratio,
            "drop_rate": self.drop_rate,
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "gradient_checkpointing": self.gradient_checkpointing,
        }


@keras.saving.register_keras_serializable(package="tfdet")
class SqueezeExcite(Composite):
    """Scales each channel by a gate computed from the means of all channels.

    Args:
        filters: channels between the two 1x1 convolutions.
        activation: name of the activation between them.
    """

    def __init__(self, filters: int, activation: str = "swish", **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = filters
        self.activation = activation

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.act = get_activation(self.activation)
        self.reduce = conv1x1(self.filters, use_bias=True, name="reduce")
        self.expand = conv1x1(input_shape[-1], use_bias=True, name="expand")
        super().build(input_shape)

    def call(self, x: Tensor) -> Tensor:
        gate = ops.mean(x, axis=(1, 2), keepdims=True)  # [B, 1, 1, C]
        return x * ops.sigmoid(self.expand(self.act(self.reduce(gate))))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "activation": self.activation,
        }


def conv1x1(filters: int, name: str, use_bias: bool = False) -> Conv2D:
    """A 1x1 convolution with EfficientNet's initial weights."""
    return Conv2D(filters, 1, use_bias=use_bias, kernel_initializer=FAN_OUT_NORMAL, name=name)
