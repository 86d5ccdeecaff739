"""Group normalisation with a gradient of its own."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class GroupNormalization(keras.layers.GroupNormalization):
    """Keras's group norm on [B, H, W, C], whose gradient is written out for TensorFlow.

    The gradient that follows from the single operations has twice as many, and keeps more of them
    from the forward pass: a head that norms five levels after each of its layers is made of little
    else.
    """

    def call(self, inputs: Tensor) -> Tensor:
        height, width, channels = inputs.shape[1:]
        is_known = None not in (height, width)
        if keras.backend.backend() != "tensorflow" or not is_known or self.gamma is None:
            return super().call(inputs)
        if keras.utils.is_keras_tensor(inputs):
            return super().call(inputs)
        shape = (-1, height * width, self.groups, channels // self.groups)
        x = ops.reshape(ops.cast(inputs, "float32"), shape)
        outputs = _normed(self.epsilon)(
            x, *(ops.cast(v, "float32") for v in (self.gamma, self.beta))
        )
        outputs = ops.reshape(outputs, (-1, height, width, channels))
        return ops.cast(outputs, self.compute_dtype)


@functools.cache
def _normed(epsilon: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """x [B, N, G, D], whose means are over N and D; gamma and beta [G * D]."""
    import tensorflow as tf

    mean_of = functools.partial(tf.reduce_mean, axis=(1, 3), keepdims=True)

    @tf.custom_gradient
    def normed(x: Tensor, gamma: Tensor, beta: Tensor) -> Any:
        mean = mean_of(x)
        inverse = tf.math.rsqrt(mean_of(tf.math.squared_difference(x, mean)) + epsilon)
        gamma, beta = (tf.reshape(v, x.shape[2:]) for v in (gamma, beta))
        scale = inverse * gamma

        def gradient(upstream: Tensor) -> tuple[Tensor, ...]:
            # All that is summed up is summed over the cells first; what follows is small.
            centred = x - mean
            d_beta = tf.reduce_sum(upstream, 1, keepdims=True)  # [B, 1, G, D]
            d_gamma = tf.reduce_sum(upstream * centred, 1, keepdims=True) * inverse
            both = tf.stack([d_gamma, d_beta])  # [2, B, 1, G, D]
            sums = tf.unstack(tf.reduce_sum(gamma * both, 4, keepdims=True))
            share = inverse / float(x.shape[1] * x.shape[3])
            along = centred * (inverse * share * sums[0])
            d_x = upstream * scale - along - share * sums[1]
            return d_x, *tf.unstack(tf.reshape(tf.reduce_sum(both, 1), (2, -1)))

        return x * scale + (beta - mean * scale), gradient

    return normed
