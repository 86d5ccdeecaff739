"""The modulated deformable convolution (DCNv2): https://arxiv.org/abs/1811.11168."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from tfdet.layers.composite import Composite
from tfdet.layers.symmetric import SymmetricConv2D
from tfdet.ops.bilinear import bilinear_sample
from tfdet.ops.counting import Operations, operations
from tfdet.tensors import Tensor

# PyTorch's default for convolutions, kaiming-uniform with a = 1 in the published code.
_OFFSET_INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1.0, "mode": "fan_in", "distribution": "uniform"},
}


@keras.saving.register_keras_serializable(package="tfdet")
class DeformableConv2D(Composite):
    """A convolution [B, H, W, C] -> [B, H', W', filters] whose taps look where the input says.

    A convolution `offset` predicts for each output cell 18 offsets (dy, dx of each of the nine taps
    in row order) and nine logits of masks in [0, 1]. Taps are sampled bilinearly; outside of the
    map is 0. Padding is symmetric.

    The offset convolution does not start at zero but like any other, as published.

    Args:
        filters: output channels.
        kernel_size: odd.
        strides: of rows and columns.
        groups: input and output channels are split into this many groups.
        use_bias: adds a bias.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        strides: int = 1,
        groups: int = 1,
        use_bias: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.groups = groups
        self.use_bias = use_bias
        self.offset = SymmetricConv2D(
            3 * kernel_size**2,
            kernel_size,
            strides=strides,
            kernel_initializer=_OFFSET_INITIALIZER,
            name="offset",
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.offset.build(input_shape)
        channels = input_shape[-1]
        bound = 1 / math.sqrt(channels * self.kernel_size**2)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, channels // self.groups, self.filters),
            initializer=keras.initializers.RandomUniform(-bound, bound),
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def call(self, inputs: Tensor) -> Tensor:
        taps = self.kernel_size**2
        predicted = ops.cast(self.offset(inputs), "float32")
        height, width = predicted.shape[1:3]
        predicted = ops.reshape(predicted, (-1, height * width, 3 * taps))
        offsets = ops.reshape(predicted[..., : 2 * taps], (-1, height * width * taps, 2))
        masks = ops.reshape(ops.sigmoid(predicted[..., 2 * taps :]), (-1, height * width * taps, 1))
        places = offsets + self._tap_places(height, width)  # [B, H'W'9, 2] y, x
        sampled = bilinear_sample(inputs, places, masks)  # [B, H'W'9, C]
        y = self._combine(ops.reshape(sampled, (-1, height, width, taps, inputs.shape[-1])))
        return y if self.bias is None else y + ops.cast(self.bias, y.dtype)

    def _tap_places(self, height: int, width: int) -> np.ndarray:
        """Where the taps of each cell look without offsets: [H'W'9, 2] y, x."""
        reach = np.arange(self.kernel_size) - self.kernel_size // 2
        y = np.arange(height)[:, None] * self.strides + reach  # [H', k]
        x = np.arange(width)[:, None] * self.strides + reach
        grid = np.stack(
            np.broadcast_arrays(y[:, None, :, None], x[None, :, None, :]), axis=-1
        )  # [H', W', k, k, 2]
        return grid.reshape(-1, 2).astype(np.float32)

    def _combine(self, sampled: Any) -> Any:
        """[B, H', W', taps, C] -> [B, H', W', filters]."""
        height, width, taps, channels = sampled.shape[1:]
        kernel = ops.cast(self.kernel, sampled.dtype)
        inside = channels // self.groups
        if self.groups == 1:
            table = ops.reshape(kernel, (taps * channels, self.filters))
            return ops.matmul(ops.reshape(sampled, (-1, height, width, taps * channels)), table)
        kernel = ops.reshape(kernel, (taps, inside, self.groups, self.filters // self.groups))
        sampled = ops.reshape(sampled, (-1, height, width, taps, self.groups, inside))
        y = ops.einsum("bhwtgc,tcgf->bhwgf", sampled, kernel)
        return ops.reshape(y, (-1, height, width, self.filters))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "groups": self.groups,
            "use_bias": self.use_bias,
        }


@operations.register
def _(layer: DeformableConv2D, inputs: Tensor, outputs: Tensor) -> Operations:
    # The sampling is not counted, as in the published figures; `offset` counts itself.
    pixels = math.prod(outputs[1:])
    macs = pixels * inputs[-1] // layer.groups * layer.kernel_size**2
    return Operations(macs, macs + (pixels if layer.use_bias else 0))
