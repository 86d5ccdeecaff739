"""Keras's convolutions, whose training has fewer operations in TensorFlow.

Keras brings a bias into the shape of a map and back again, in training with the gradients of both:
ten operations in the place of two.
"""

from typing import Any

import keras

from tfdet.tensors import Tensor


class _Direct:
    """Mixed in before a Keras convolution of channels-last maps.

    A subclass gives `convolved`: the outputs without bias and activation, by TensorFlow.
    """

    def call(self, inputs: Tensor) -> Tensor:
        if keras.backend.backend() != "tensorflow" or self.groups > 1:
            return super().call(inputs)
        import tensorflow as tf

        outputs = self.convolved(inputs)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    def convolved(self, inputs: Tensor) -> Any:
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="tfdet")
class Conv2D(_Direct, keras.layers.Conv2D):
    """`keras.layers.Conv2D`."""

    def convolved(self, inputs: Tensor) -> Any:
        import tensorflow as tf

        padding, dilations = self.padding.upper(), self.dilation_rate
        return tf.nn.conv2d(inputs, self.kernel, self.strides, padding, dilations=dilations)


@keras.saving.register_keras_serializable(package="tfdet")
class DepthwiseConv2D(_Direct, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D`."""

    groups = 1

    def convolved(self, inputs: Tensor) -> Any:
        return _depthwise(self, inputs, self.kernel)


@keras.saving.register_keras_serializable(package="tfdet")
class SeparableConv2D(_Direct, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D`."""

    groups = 1

    def convolved(self, inputs: Tensor) -> Any:
        import tensorflow as tf

        outputs = _depthwise(self, inputs, self.depthwise_kernel)
        return tf.nn.conv2d(outputs, self.pointwise_kernel, 1, "VALID")


def _depthwise(layer: keras.layers.Layer, inputs: Tensor, kernel: Any) -> Any:
    import tensorflow as tf

    strides, padding = (1, *layer.strides, 1), layer.padding.upper()
    if layer.dilation_rate != (1, 1):  # moves cells to and fro
        return tf.nn.depthwise_conv2d(
            inputs, kernel, strides, padding, dilations=layer.dilation_rate
        )
    return tf.raw_ops.DepthwiseConv2dNative(
        input=inputs, filter=kernel, strides=strides, padding=padding
    )
