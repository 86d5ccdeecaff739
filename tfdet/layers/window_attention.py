"""Self-attention in windows of a map, as Swin has it: https://arxiv.org/abs/2103.14030."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfdet.layers.composite import Composite
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class WindowAttention(Composite):
    """Every position of a map [B, H, W, C] looks at those of its window; the shape stays.

    The map is filled with zeros to whole windows at its right and bottom ends. With a shift the
    windows lie that many cells further down and to the right; those that wrap around the border are
    divided, so that nobody looks across it.

    Args:
        heads: C is divided among them.
        window: side of a window in cells.
        shift: 0, or half of the window.
    """

    def __init__(self, heads: int, window: int = 7, shift: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads
        self.window = window
        self.shift = shift

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = input_shape[-1]
        initializer = keras.initializers.TruncatedNormal(stddev=0.02)
        self.qkv = keras.layers.Dense(3 * width, kernel_initializer=initializer, name="qkv")
        self.project = keras.layers.Dense(width, kernel_initializer=initializer, name="project")
        self.position_bias = self.add_weight(
            shape=((2 * self.window - 1) ** 2, self.heads),
            initializer=initializer,
            name="position_bias",
        )
        super().build(input_shape)

    def call(self, x: Tensor) -> Tensor:
        height, width, channels = x.shape[1:]
        down, right = (-side % self.window for side in (height, width))
        x = ops.pad(x, ((0, 0), (0, down), (0, right), (0, 0)))
        if self.shift:
            x = ops.roll(x, (-self.shift, -self.shift), axis=(1, 2))
        grid = (height + down) // self.window, (width + right) // self.window
        x = self._attend(self._windows(x, grid, channels), grid)
        x = ops.reshape(x, (-1, *grid, self.window, self.window, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, height + down, width + right, channels))
        if self.shift:
            x = ops.roll(x, (self.shift, self.shift), axis=(1, 2))
        return x[:, :height, :width]

    def _windows(self, x: Tensor, grid: tuple[int, int], channels: int) -> Any:
        """[B, windows, cells of a window, C]."""
        shape = (-1, grid[0], self.window, grid[1], self.window, channels)
        x = ops.transpose(ops.reshape(x, shape), (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, grid[0] * grid[1], self.window**2, channels))

    def _attend(self, x: Tensor, grid: tuple[int, int]) -> Any:
        windows, cells, channels = x.shape[1:]
        qkv = ops.reshape(self.qkv(x), (-1, windows, cells, 3, self.heads, channels // self.heads))
        query, key, value = ops.unstack(ops.transpose(qkv, (3, 0, 1, 4, 2, 5)), axis=0)
        logits = ops.matmul(query * (channels // self.heads) ** -0.5, ops.swapaxes(key, -1, -2))
        bias = ops.take(self.position_bias, _relative_index(self.window), axis=0)
        logits += ops.cast(ops.transpose(bias, (2, 0, 1)), logits.dtype)
        if self.shift:
            mask = _mask(grid, self.window, self.shift)[:, None]
            logits += ops.cast(mask, logits.dtype)
        mixed = ops.matmul(ops.softmax(logits), value)  # [B, windows, heads, cells, c]
        mixed = ops.reshape(ops.swapaxes(mixed, 2, 3), (-1, windows, cells, channels))
        return self.project(mixed)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "heads": self.heads,
            "window": self.window,
            "shift": self.shift,
        }


def _relative_index(window: int) -> np.ndarray:
    """Row of the bias table for each pair of cells, int32 [cells, cells]."""
    y, x = (axis.ravel() for axis in np.indices((window, window)))
    down = y[:, None] - y + window - 1
    right = x[:, None] - x + window - 1
    return (down * (2 * window - 1) + right).astype(np.int32)


def _mask(grid: tuple[int, int], window: int, shift: int) -> np.ndarray:
    """-100 where cells of a shifted window are no neighbours, [windows, cells, cells]."""
    parts = []
    for count in grid:
        side = np.arange(count * window)
        parts.append((side >= (count - 1) * window).astype(int) + (side >= count * window - shift))
    region = 3 * parts[0][:, None] + parts[1]
    region = region.reshape(grid[0], window, grid[1], window).swapaxes(1, 2)
    region = region.reshape(-1, window**2)
    return np.where(region[:, :, None] == region[:, None], 0.0, -100.0).astype(np.float32)
