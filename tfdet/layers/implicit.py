"""YOLOR's implicit knowledge: learned vectors that shift or scale a map.

Paper: https://arxiv.org/abs/2105.04206.
"""

import keras

from tfdet.tensors import Tensor


class _Implicit(keras.layers.Layer):
    """A vector [C] beside a map [B, H, W, C]; at first around `start`."""

    start: float

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.implicit = self.add_weight(
            shape=(input_shape[-1],),
            initializer=keras.initializers.RandomNormal(self.start, 0.02),
            name="implicit",
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)


@keras.saving.register_keras_serializable(package="tfdet")
class ImplicitAdd(_Implicit):
    """Adds a learned number to each channel."""

    start = 0.0

    def call(self, x: Tensor) -> Tensor:
        return x + self.implicit


@keras.saving.register_keras_serializable(package="tfdet")
class ImplicitMultiply(_Implicit):
    """Multiplies each channel by a learned number."""

    start = 1.0

    def call(self, x: Tensor) -> Tensor:
        return x * self.implicit
