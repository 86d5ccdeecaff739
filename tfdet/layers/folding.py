"""A batch norm as part of the convolution before it, for inference.

`folded` computes the numbers. Merged layers such as `ConvBN(merged=True)` take them as weights.
Where weights are read again in each run, `in_place_of` has `normed` run them instead of the two
layers.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from tfdet.layers.batch_norm import BatchNormalization
from tfdet.tensors import Tensor

_state = threading.local()


class Folded(NamedTuple):
    """What a convolution or dense layer, maybe with the batch norm behind it, multiplies and adds.

    Attributes:
        kernel: of the layer's own shape.
        bias: [filters], or None.
    """

    kernel: Any
    bias: Any = None


def exact(variable: keras.Variable) -> np.ndarray:
    """The variable's value in float64."""
    return np.asarray(variable, np.float64)


def folded(
    layer: keras.layers.Layer,
    norm: BatchNormalization | None = None,
    read: Callable[[keras.Variable], Any] = exact,
) -> Folded:
    """A convolution (also depthwise) or dense layer and, where given, the batch norm behind it.

    Args:
        layer: built.
        norm: what follows.
        read: gives the value of a variable; the result is made of what it gives.
    """
    kernel, bias = read(layer.kernel), read(layer.bias) if layer.use_bias else None
    if norm is None:
        return Folded(kernel, bias)
    scale, shift = scale_and_shift(norm, read)
    bias = shift if bias is None else shift + bias * scale
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        scale = scale[:, None]  # a kernel of [h, w, C, 1]
    return Folded(kernel * scale, bias)


def scale_and_shift(
    norm: BatchNormalization, read: Callable[[keras.Variable], Any] = exact
) -> tuple[Any, Any]:
    """([C], [C]): what a batch norm multiplies with and adds in inference."""
    gamma, beta, mean, variance = map(
        read, (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    scale = gamma / (variance + norm.epsilon) ** 0.5
    return scale, beta - mean * scale


def normed(
    layer: keras.layers.Layer,
    norm: BatchNormalization | None,
    x: Tensor,
    training: bool | None = None,
) -> Any:
    """`norm(layer(x))`, or `layer(x)` without a norm; within `in_place_of`, what stands for it."""
    folds = getattr(_state, "folds", {})
    if layer in folds:
        return _run(layer, folds[layer], x)
    y = layer(x)
    return y if norm is None else norm(y, training=training)


@contextlib.contextmanager
def in_place_of(folds: Mapping[keras.layers.Layer, Folded]) -> Iterator[None]:
    """Within it, `normed` runs these numbers in the place of a layer and its batch norm.

    For inference with TensorFlow. Grappler folds a batch norm by itself, but then adds the bias and
    a residual in passes over the map of their own. Written as convolution, `bias_add`, addition and
    ReLU, all of it is one oneDNN kernel, which saves a sixth of the time of a grid's block on large
    maps, an eighth on middling ones.
    """
    outer = getattr(_state, "folds", {})
    _state.folds = {**outer, **folds}
    try:
        yield
    finally:
        _state.folds = outer


def _run(layer: keras.layers.Layer, fold: Folded, x: Tensor) -> Any:
    import tensorflow as tf

    kernel = tf.cast(fold.kernel, x.dtype)
    if isinstance(layer, keras.layers.Dense):
        y = x @ kernel
    elif isinstance(layer, keras.layers.DepthwiseConv2D):
        y = tf.nn.depthwise_conv2d(x, kernel, (1, *layer.strides, 1), layer.padding.upper())
    else:
        y = tf.nn.conv2d(x, kernel, layer.strides, layer.padding.upper())
    return y if fold.bias is None else tf.nn.bias_add(y, tf.cast(fold.bias, x.dtype))
