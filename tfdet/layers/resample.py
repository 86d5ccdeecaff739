"""Brings a feature map to another level of the pyramid."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfdet.layers.batch_norm import Kind, batch_norm
from tfdet.layers.convolution import Conv2D
from tfdet.ops.gather import gather_rows
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class Resample(keras.layers.Layer):
    """A map [B, H, W, C] to another size and width.

    A map that is too large is max-pooled (window one more than the stride, padding "same"); one
    that is too small is enlarged by nearest neighbours. A map whose width differs goes through a
    1x1 convolution with bias and a batch norm, without activation.

    Call it with `size=(height, width)`, the size to produce.

    Args:
        filters: number of output channels.
        batch_norm: kind of batch norm after the 1x1 convolution; None for none at all.
        pool_first: pool before the 1x1 convolution instead of after it.
    """

    def __init__(
        self,
        filters: int,
        batch_norm: Kind | None = "plain",
        pool_first: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.batch_norm = batch_norm
        self.pool_first = pool_first
        self.conv = self.bn = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if input_shape[-1] == self.filters:
            return
        self.conv = Conv2D(self.filters, 1, name="conv")
        self.conv.build(input_shape)
        if self.batch_norm is not None:
            self.bn = batch_norm(self.batch_norm, name="bn")
            self.bn.build((*input_shape[:-1], self.filters))

    def call(self, x: Tensor, size: tuple[int, int], training: bool | None = None) -> Tensor:
        if self.pool_first:
            x = shrink(x, size)
        if self.conv is not None:
            x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x, training=training)
        return enlarge_nearest(shrink(x, size), size)

    def compute_output_spec(
        self, x: Tensor, size: tuple[int, int], training: bool | None = None
    ) -> Tensor:
        return self.call(x, size, training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "batch_norm": self.batch_norm,
            "pool_first": self.pool_first,
        }


def shrink(x: Tensor, size: tuple[int, int]) -> Any:
    """Max-pools `x` [B, H, W, C] to `size`; a map that is small enough is returned as it is."""
    height, width = x.shape[1:3]
    if height <= size[0] and width <= size[1]:
        return x
    if height < size[0] or width < size[1]:
        raise ValueError(
            f"cannot resample {height}x{width} to {size[0]}x{size[1]}: one side grows and the "
            "other shrinks"
        )
    strides = ((height - 1) // size[0] + 1, (width - 1) // size[1] + 1)
    window = (strides[0] + 1, strides[1] + 1)
    return ops.max_pool(x, window, strides, padding="same")


def enlarge_nearest(x: Tensor, size: tuple[int, int]) -> Any:
    """Nearest-neighbour enlargement of `x` [B, H, W, C] to `size`.

    Row i of the output is row floor(i * in / out) of the input, in float32 like TensorFlow 1. The
    half-pixel centres of today's resize operations give other rows where the ratio is not whole.
    """
    height, width = x.shape[1:3]
    if size[0] % height == size[1] % width == 0:
        return _repeated(x, size[0] // height, size[1] // width)
    rows, columns = (_floor_indices(*sides) for sides in zip((height, width), size, strict=True))
    cells = width * rows[:, None] + columns  # of the flat map
    x = gather_rows(ops.reshape(x, (-1, height * width, x.shape[-1])), cells.reshape(1, -1))
    return ops.reshape(x, (-1, *size, x.shape[-1]))


def _repeated(x: Tensor, rows: int, columns: int) -> Any:
    """Each cell of `x` [B, H, W, C] `rows` times `columns` times, in one copy."""
    if rows == columns == 1:
        return x
    height, width, channels = x.shape[1:]
    cells = ops.reshape(x, (-1, height, 1, width, 1, channels))
    cells = ops.tile(cells, (1, 1, rows, 1, columns, 1))
    return ops.reshape(cells, (-1, height * rows, width * columns, channels))


def _floor_indices(source: int, target: int) -> np.ndarray:
    scale = np.float32(source) / np.float32(target)
    rows = np.floor(np.arange(target, dtype=np.float32) * scale).astype(np.int32)
    return np.minimum(rows, source - 1)
