"""YOLOv7's way from one level to the next coarser one."""

from typing import Any

import keras
from keras import ops

from tfdet.layers.batch_norm import Kind
from tfdet.layers.composite import Composite
from tfdet.layers.conv_bn import ConvBN
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class MaxPoolDown(Composite):
    """[B, H, W, C] to [B, H/2, W/2, 2 filters]: a strided convolution beside max pooling.

    Call it with `strided_input`, a map of the same height and width, for the strided convolution to
    read that one.

    Args:
        filters: channels of each of the two branches.
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
        style = {"batch_norm": batch_norm, "merged": merged}
        self.pooled = ConvBN(filters, 1, **style, name="pooled")
        self.narrow = ConvBN(filters, 1, **style, name="narrow")
        self.strided = ConvBN(filters, 3, 2, **style, name="strided")

    def call(self, x: Tensor, strided_input: Any = None, training: bool | None = None) -> Tensor:
        pooled = self.pooled(ops.max_pool(x, 2, 2), training=training)
        other = x if strided_input is None else strided_input
        strided = self.strided(self.narrow(other, training=training), training=training)
        return ops.concatenate([strided, pooled], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "batch_norm": self.batch_norm,
            "merged": self.merged,
        }
