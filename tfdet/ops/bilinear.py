"""Reading maps between their cells."""

from typing import Any

from keras import ops

from tfdet.ops.gather import gather_rows
from tfdet.tensors import Tensor


def bilinear_sample(maps: Tensor, places: Any, weights: Any = 1.0) -> Any:
    """Values of `maps` [B, H, W, C] at `places` [B, N, 2] (y, x), times `weights` [B, N, 1].

    Whole coordinates are centres of cells; cells outside of the map are 0. Returns [B, N, C].
    """
    height, width, channels = maps.shape[1:]
    flat = ops.reshape(maps, (-1, height * width, channels))
    corner = ops.floor(places)
    near = places - corner  # share of the next row and column
    total = 0.0
    for dy in (0, 1):
        for dx in (0, 1):
            y, x = corner[..., 0] + dy, corner[..., 1] + dx
            share = (near[..., 0] if dy else 1 - near[..., 0]) * (
                near[..., 1] if dx else 1 - near[..., 1]
            )
            is_inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            share = ops.where(is_inside, share, 0.0)[..., None] * weights
            # Clipped as numbers: an offset that is not finite must not become a wild index.
            row = ops.clip(ops.nan_to_num(y), 0, height - 1)
            column = ops.clip(ops.nan_to_num(x), 0, width - 1)
            index = ops.cast(row * width + column, "int32")
            total = total + gather_rows(flat, index) * ops.cast(share, maps.dtype)
    return total
