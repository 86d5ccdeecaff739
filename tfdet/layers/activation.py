"""Activations by the names that the papers use."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfdet.errors import UserError
from tfdet.ops import portable
from tfdet.tensors import Tensor


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x), whose gradient remembers `x` alone.

    TensorFlow's own has a gradient for a factor within the sigmoid, too, and three times the
    operations.
    """
    if keras.backend.backend() != "tensorflow" or keras.utils.is_keras_tensor(x):
        return keras.activations.silu(x)
    return _silu()(x)


@functools.cache
def _silu() -> Callable[[Tensor], Tensor]:
    import tensorflow as tf

    @tf.custom_gradient
    def function(x: Tensor) -> Any:
        def gradient(upstream: Tensor) -> Tensor:
            # Only now: a sigmoid that is kept since the forward pass costs its memory until here.
            with tf.control_dependencies([upstream]):
                sigmoid = tf.sigmoid(x)
            # x * sigmoid * (1 - sigmoid) in one pass
            through = tf.raw_ops.SigmoidGrad(y=sigmoid, dy=x)
            return upstream * (sigmoid + through)

        return x * tf.sigmoid(x), gradient

    return function


def gelu(x: Tensor) -> Any:
    """x times the normal distribution's share below x, not approximated.

    TensorFlow computes it with the complementary error function, which ONNX does not have.
    """
    if portable.is_wanted():
        return 0.5 * x * (1.0 + ops.erf(x * 0.5**0.5))
    return keras.activations.gelu(x, approximate=False)


def _mish(x: Tensor) -> Any:
    return x * ops.tanh(ops.softplus(x))


_ACTIVATIONS = {
    "swish": silu,
    "silu": silu,
    # Keras 3.15's activations of this and the last name refuse symbolic tensors.
    "hswish": ops.hard_silu,
    "relu": keras.activations.relu,
    "relu6": keras.activations.relu6,
    "leaky_relu": keras.activations.leaky_relu,
    "mish": _mish,
}


def activation(name: str) -> Callable[[Any], Any]:
    """The activation function called `name`."""
    if name not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise UserError(f"unknown activation {name!r}; use one of {known}")
    return _ACTIVATIONS[name]
