"""Convolution, group norm and ReLU on several maps, with shared or separate statistics."""

from typing import Any

import keras
from keras import ops

from tfdet.layers.composite import Composite, on_each
from tfdet.layers.deformable_conv import DeformableConv2D
from tfdet.layers.group_norm import GroupNormalization
from tfdet.layers.symmetric import SymmetricConv2D
from tfdet.tensors import Tensor

# Keras's default is 1e-3; the heads of FCOS and PackDet were trained with this.
_EPSILON = 1e-5


@keras.saving.register_keras_serializable(package="tfdet")
class ConvBlock(Composite):
    """A list of maps [B, H_l, W_l, C] to maps [B, H_l, W_l, filters] through one set of weights.

    The norm sees each map alone or, with `joint=True` in the call, the cells of all maps together
    (PackDet's cross-head group norm without packing).

    Args:
        filters: output channels.
        kernel_size: odd.
        groups: of the norm; 0 for none.
        deformable: the convolution is a `DeformableConv2D`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        groups: int = 32,
        deformable: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.groups = groups
        self.deformable = deformable
        self.conv = (
            DeformableConv2D(filters, kernel_size, use_bias=True, name="conv")
            if deformable
            else SymmetricConv2D(
                filters,
                kernel_size,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
                name="conv",
            )
        )
        self.norm = GroupNormalization(groups, epsilon=_EPSILON, name="norm") if groups else None

    def call(self, maps: list[Tensor], joint: bool = False) -> list[Tensor]:
        maps = on_each(self.conv, maps)
        if self.norm is not None:
            maps = self._joint_norm(maps) if joint else on_each(self.norm, maps)
        return [ops.relu(x) for x in maps]

    def _joint_norm(self, maps: list[Tensor]) -> list[Any]:
        shapes = [x.shape[1:] for x in maps]
        cells = [height * width for height, width, _ in shapes]
        rows = [ops.reshape(x, (-1, n, 1, x.shape[-1])) for x, n in zip(maps, cells, strict=True)]
        rows = self.norm(ops.concatenate(rows, axis=1))  # [B, all cells, 1, C]
        ends = [sum(cells[: i + 1]) for i in range(len(cells) - 1)]
        parts = ops.split(rows, ends, axis=1)
        return [ops.reshape(x, (-1, *shape)) for x, shape in zip(parts, shapes, strict=True)]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "groups": self.groups,
            "deformable": self.deformable,
        }
