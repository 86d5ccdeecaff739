"""The mask head of Mask R-CNN: https://arxiv.org/abs/1703.06870."""

from typing import Any

import keras

from tfdet.layers.composite import Composite
from tfdet.layers.initializers import FAN_OUT_NORMAL
from tfdet.layers.per_region import RegionConv2D, RegionConv2DTranspose
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class MaskHead(Composite):
    """Features of regions [B, N, h, w, C] to mask logits [B, N, 2 h, 2 w, num_classes].

    Args:
        num_classes: classes without background; each has a mask of its own.
        filters: width of the convolutions.
        repeats: 3x3 convolutions before the enlargement.
    """

    def __init__(self, num_classes: int, filters: int = 256, repeats: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.filters = filters
        self.repeats = repeats
        options = {"activation": "relu", "kernel_initializer": FAN_OUT_NORMAL}
        self.convs = [
            RegionConv2D(filters, 3, padding="same", name=f"conv_{i}", **options)
            for i in range(repeats)
        ]
        self.enlarge = RegionConv2DTranspose(filters, 2, strides=2, name="enlarge", **options)
        self.predict = RegionConv2D(
            num_classes, 1, kernel_initializer=FAN_OUT_NORMAL, name="predict"
        )

    def call(self, features: Tensor) -> Tensor:
        x = features
        for conv in self.convs:
            x = conv(x)
        return self.predict(self.enlarge(x))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "filters": self.filters,
            "repeats": self.repeats,
        }
