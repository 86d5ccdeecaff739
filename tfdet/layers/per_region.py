"""Convolutions on the features of regions, which have an axis more than images."""

import keras
from keras import ops

from tfdet.layers.convolution import Conv2D
from tfdet.tensors import Tensor


class _PerRegion:
    """Folds [B, N, H, W, C] into one axis of maps and back.

    Mixed in before a Keras layer of channels-last maps.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build((None, *input_shape[2:]))
        self.input_spec = None  # Keras's counts the axes

    def call(self, inputs: Tensor) -> Tensor:
        maps = super().call(ops.reshape(inputs, (-1, *inputs.shape[2:])))
        return ops.reshape(maps, (-1, inputs.shape[1], *maps.shape[1:]))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        if len(input_shape) == 4:  # Keras asks for that of its own kernel while it builds
            return super().compute_output_shape(input_shape)
        _, *shape = super().compute_output_shape((1, *input_shape[2:]))
        return (*input_shape[:2], *shape)

    def compute_output_spec(self, inputs: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)


@keras.saving.register_keras_serializable(package="tfdet")
class RegionConv2D(_PerRegion, Conv2D):
    """`keras.layers.Conv2D` of [B, N, H, W, C]."""


@keras.saving.register_keras_serializable(package="tfdet")
class RegionConv2DTranspose(_PerRegion, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` of [B, N, H, W, C]."""
