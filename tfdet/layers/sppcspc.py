"""Spatial pyramid pooling within a cross-stage partial block, as YOLOv7 has it."""

from typing import Any

import keras
from keras import ops

from tfdet.layers.batch_norm import Kind
from tfdet.layers.composite import Composite
from tfdet.layers.conv_bn import ConvBN
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class SPPCSPC(Composite):
    """[B, H, W, C] to [B, H, W, filters], with windows of up to 13 cells pooled into each cell.

    Args:
        filters: output channels, and those inside.
        batch_norm: kind of batch norm.
        merged: see `layers.conv_bn.ConvBN`.
    """

    def __init__(
        self, filters: int, batch_norm: Kind = "plain", merged: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.batch_norm = batch_norm
        self.merged = merged

        def conv(number: int, kernel_size: int) -> ConvBN:
            style = {"batch_norm": batch_norm, "merged": merged}
            return ConvBN(filters, kernel_size, **style, name=f"cv{number}")

        # Numbered as in published weights: 1, 3, 4 before the pooling, 5, 6 after it, 2 beside all
        # of them, 7 at the end.
        self.convs = [conv(number, 3 if number in (3, 6) else 1) for number in range(1, 8)]

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        cv1, cv2, cv3, cv4, cv5, cv6, cv7 = (
            lambda y, conv=conv: conv(y, training=training) for conv in self.convs
        )
        maps = [cv4(cv3(cv1(x)))]
        # Windows of 5, 9 and 13 cells: pooling twice over 5 is pooling once over 9.
        for _ in range(3):
            maps.append(ops.max_pool(maps[-1], 5, 1, padding="same"))
        deep = cv6(cv5(ops.concatenate(maps, axis=-1)))
        return cv7(ops.concatenate([deep, cv2(x)], axis=-1))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "batch_norm": self.batch_norm,
            "merged": self.merged,
        }
