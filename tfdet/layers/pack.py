"""PackOp as layers: a pyramid in one map, and back."""

from collections.abc import Sequence
from typing import Any

import keras

from tfdet.ops import pack as pack_ops
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class Pack(keras.layers.Layer):
    """All maps of a pyramid in one map [B, H, W, C]; cells that no map covers are zero.

    Call it with a list of maps [B, h, w, C] in the order of `tfdet.ops.pack.map_levels(pattern)`.

    Example:
        maps = [keras.ops.ones((1, side, side, 8)) for side in (16, 8, 4, 2, 1)]
        Pack(pattern=3)(maps).shape  # (1, 24, 16, 8)

    Args:
        pattern: 1 to 5, or the names of PackDet's configurations such as "m4".
    """

    def __init__(self, pattern: int | str = 4, **kwargs: Any):
        super().__init__(**kwargs)
        self.pattern = pack_ops.pattern_number(pattern)
        self.supports_jit = not pack_ops.native_is_available()

    def call(self, maps: Sequence[Tensor]) -> Tensor:
        return pack_ops.pack(maps, self.pattern)

    def compute_output_shape(self, input_shape: Sequence[Sequence[int | None]]) -> tuple:
        layout = pack_ops.layout_of_maps([shape[1:3] for shape in input_shape], self.pattern)
        return (input_shape[0][0], layout.height, layout.width, input_shape[0][3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pattern": self.pattern}


@keras.saving.register_keras_serializable(package="tfdet")
class Unpack(keras.layers.Layer):
    """The maps that lie in a packed map: the inverse of `Pack`.

    Call it with a packed map [B, H, W, C] and `sizes=[(height, width), ...]`, the size of each
    level. It returns one map per entry of `tfdet.ops.pack.map_levels(pattern)`, with extra maps.

    Args:
        pattern: the pattern of `Pack`.
    """

    def __init__(self, pattern: int | str = 4, **kwargs: Any):
        super().__init__(**kwargs)
        self.pattern = pack_ops.pattern_number(pattern)
        self.supports_jit = not pack_ops.native_is_available()

    def call(self, packed: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        return pack_ops.unpack(packed, pack_ops.layout(sizes, self.pattern))

    def compute_output_spec(
        self, packed: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> list[keras.KerasTensor]:
        batch, _, _, channels = packed.shape
        shapes = [(batch, *size, channels) for size in pack_ops.layout(sizes, self.pattern).sizes]
        return [keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pattern": self.pattern}
