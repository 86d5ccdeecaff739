"""Convolutions and pooling that pad both sides alike, as PyTorch's and Caffe's networks do.

TensorFlow's "same" pads a map of even size at its end only where the stride is 2. Networks whose
weights were trained with symmetric padding are shifted by a pixel under it.
"""

from typing import Any

import keras
from keras import ops

from tfdet.layers.convolution import Conv2D, DepthwiseConv2D
from tfdet.ops import portable
from tfdet.tensors import Tensor


class _Symmetric:
    """Pads half of the window on each side, then convolves or pools without padding.

    Where the stride is 1, "same" is that, and faster than padding first. Mixed in before a Keras
    layer of channels-last maps.
    """

    pad_value = 0.0

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{**kwargs, "padding": "valid"})
        if max(self.strides) == 1:
            self.padding = "same"

    @property
    def _margins(self) -> list[int]:
        """Rows and columns that are added on each side."""
        if self.padding == "same":
            return [0, 0]
        window = getattr(self, "kernel_size", None) or self.pool_size
        dilation = getattr(self, "dilation_rate", (1, 1))
        return [size // 2 * step for size, step in zip(window, dilation, strict=True)]

    def call(self, inputs: Tensor) -> Tensor:
        margins = self._margins
        if any(margins):
            pads = ((0, 0), *((margin, margin) for margin in margins), (0, 0))
            inputs = ops.pad(inputs, pads, constant_values=self.pad_value)
        return super().call(inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        padded = [
            None if side is None else side + 2 * margin
            for side, margin in zip(input_shape[1:3], self._margins, strict=True)
        ]
        return super().compute_output_shape((input_shape[0], *padded, input_shape[3]))


@keras.saving.register_keras_serializable(package="tfdet")
class SymmetricConv2D(_Symmetric, Conv2D):
    """`keras.layers.Conv2D` with symmetric padding; for odd kernels."""


@keras.saving.register_keras_serializable(package="tfdet")
class SymmetricDepthwiseConv2D(_Symmetric, DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with symmetric padding; for odd kernels."""

    def call(self, inputs: Tensor) -> Tensor:
        # In bfloat16 some processors get a kernel's gradient wrong by half (TensorFlow 2.21).
        is_float32 = keras.backend.standardize_dtype(inputs.dtype) == "float32"
        is_padded = self.padding != "same"
        is_native = keras.backend.backend() == "tensorflow" and not portable.is_wanted()
        if not (is_native and is_float32 and is_padded):
            return super().call(inputs)
        import tensorflow as tf

        # A padded copy of a large map takes three times as long as the convolution itself. Such
        # paddings are TensorFlow's alone; OpenVINO refuses them.
        sides = [[margin, margin] for margin in self._margins]
        outputs = tf.nn.depthwise_conv2d(
            inputs,
            self.kernel,
            (1, *self.strides, 1),
            [[0, 0], *sides, [0, 0]],
            dilations=self.dilation_rate,
        )
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return self.activation(outputs)


@keras.saving.register_keras_serializable(package="tfdet")
class SymmetricMaxPooling2D(_Symmetric, keras.layers.MaxPooling2D):
    """`keras.layers.MaxPooling2D` with symmetric padding; for odd windows."""

    pad_value = -float("inf")
