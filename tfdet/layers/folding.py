"""A convolution and what follows it as one kernel and one bias, for inference with TensorFlow.

Grappler folds a batch norm by itself, but then adds the bias and a residual in passes over the map
of their own. Written as convolution, `bias_add`, addition and ReLU, all of it is one oneDNN kernel,
which saves a sixth of the time of a grid's block on large maps, an eighth on middling ones.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfdet.layers.batch_norm import BatchNormalization
from tfdet.ops import conditional


class Folded(NamedTuple):
    """What a convolution or dense layer, maybe with the batch norm behind it, multiplies and adds.

    Attributes:
        kernel: of the layer's own shape.
        bias: [filters], or None.
    """

    kernel: Any
    bias: Any = None

    def pointwise(self, x: tf.Tensor, strides: int = 1) -> tf.Tensor:
        """The 1x1 convolution of a map [B, H, W, C]."""
        return self._plus_bias(tf.nn.conv2d(x, tf.cast(self.kernel, x.dtype), strides, "VALID"))

    def depthwise(self, x: tf.Tensor) -> tf.Tensor:
        """The depthwise convolution of a map [B, H, W, C], of stride 1 and padded."""
        kernel = tf.cast(self.kernel, x.dtype)
        return self._plus_bias(tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "SAME"))

    def rows(self, x: tf.Tensor) -> tf.Tensor:
        """Rows [N, C] times a dense layer's kernel, or that of a 1x1 convolution."""
        kernel = tf.cast(self.kernel, x.dtype)
        return self._plus_bias(x @ tf.reshape(kernel, kernel.shape[-2:]))

    def _plus_bias(self, x: tf.Tensor) -> tf.Tensor:
        return x if self.bias is None else tf.nn.bias_add(x, tf.cast(self.bias, x.dtype))


def folded(layer: keras.layers.Layer, norm: BatchNormalization | None = None) -> Folded:
    """A convolution (also depthwise) or dense layer and, where given, the batch norm behind it.

    NumPy arrays within `conditional.constant_branches`, tensors otherwise.
    """
    kernel = conditional.value_of(layer.kernel)
    bias = conditional.value_of(layer.bias) if layer.use_bias else None
    if norm is None:
        return Folded(kernel, bias)
    gamma, beta, mean, variance = map(
        conditional.value_of, (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    scale = gamma * (variance + norm.epsilon) ** -0.5
    bias = beta + ((0.0 if bias is None else bias) - mean) * scale
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        scale = scale[:, None]  # a kernel of [h, w, C, 1]
    return Folded(kernel * scale, bias)
