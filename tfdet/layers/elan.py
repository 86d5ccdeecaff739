"""The blocks between which YOLOv7's features flow: https://arxiv.org/abs/2207.02696."""

from typing import Any

import keras
from keras import ops

from tfdet.layers.batch_norm import Kind
from tfdet.layers.composite import Composite
from tfdet.layers.conv_bn import ConvBN
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class ELAN(Composite):
    """[B, H, W, C] to [B, H, W, filters] by paths of different lengths.

    Two 1x1 convolutions, the second followed by a chain of 3x3 ones; these maps are concatenated
    and go through a last 1x1 convolution.

    Args:
        hidden: channels of each of the two.
        width: channels of the chain.
        filters: output channels.
        convs: length of the chain.
        keeps_all: concatenate every map of the chain (necks) instead of every second one
            (backbones).
        batch_norm: kind of batch norm.
        merged: see `layers.conv_bn.ConvBN`.
    """

    def __init__(
        self,
        hidden: int,
        width: int,
        filters: int,
        convs: int = 4,
        keeps_all: bool = False,
        batch_norm: Kind = "plain",
        merged: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.hidden = hidden
        self.width = width
        self.filters = filters
        self.convs = convs
        self.keeps_all = keeps_all
        self.batch_norm = batch_norm
        self.merged = merged
        style = {"batch_norm": batch_norm, "merged": merged}
        self.shortcut = ConvBN(hidden, 1, **style, name="shortcut")
        self.entry = ConvBN(hidden, 1, **style, name="entry")
        self.chain = [ConvBN(width, 3, **style, name=f"conv_{i}") for i in range(convs)]
        self.exit = ConvBN(filters, 1, **style, name="exit")

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        maps = [self.shortcut(x, training=training), self.entry(x, training=training)]
        y = maps[-1]
        for i, conv in enumerate(self.chain, 1):
            y = conv(y, training=training)
            if self.keeps_all or i % 2 == 0:
                maps.append(y)
        # The newest first: the order of published weights.
        return self.exit(ops.concatenate(maps[::-1], axis=-1), training=training)

    def get_config(self) -> dict[str, Any]:
        names = ("hidden", "width", "filters", "convs", "keeps_all", "batch_norm", "merged")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
