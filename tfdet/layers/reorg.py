"""Space to depth in YOLO's order."""

import keras
from keras import ops

from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class ReOrg(keras.layers.Layer):
    """[B, H, W, C] to [B, H/2, W/2, 4 C]: the four pixels of each 2x2 square side by side.

    Their order is down the columns: (row, column) = (0, 0), (1, 0), (0, 1), (1, 1), not the order
    of TensorFlow's `space_to_depth`.
    """

    def call(self, x: Tensor) -> Tensor:
        height, width, channels = x.shape[1:]
        x = ops.reshape(x, (-1, height // 2, 2, width // 2, 2, channels))
        x = ops.transpose(x, (0, 1, 3, 4, 2, 5))  # [B, H/2, W/2, column, row, C]
        return ops.reshape(x, (-1, height // 2, width // 2, 4 * channels))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        return batch, height // 2, width // 2, 4 * channels
