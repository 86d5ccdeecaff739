"""The feature pyramid of two-stage and dense detectors: https://arxiv.org/abs/1612.03144."""

from typing import Any, Literal

import keras
from keras import ops

from tfdet.layers.composite import Composite
from tfdet.layers.convolution import SeparableConv2D
from tfdet.layers.resample import enlarge_nearest
from tfdet.layers.symmetric import SymmetricConv2D
from tfdet.tensors import Tensor

Source = Literal["pyramid", "backbone", "pool"]
Kind = Literal["fpn", "fpnlite", "projection"]

# Kaiming-uniform with a = 1: the bound is sqrt(3 / fan_in).
_INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1.0, "mode": "fan_in", "distribution": "uniform"},
}

# A depthwise kernel is [3, 3, C, 1], whose fan that counts is Keras's fan_out.
_DEPTHWISE_INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1.0, "mode": "fan_out", "distribution": "uniform"},
}


@keras.saving.register_keras_serializable(package="tfdet")
class FPN(Composite):
    """Maps of a backbone {"P3": ..., "P5": ...} to maps {"P3": ..., "P7": ...} of one width.

    A 1x1 convolution per level, top-down addition of enlarged maps, and a 3x3 convolution per
    level; neither norms nor activations. Coarser levels than the backbone's are 3x3 convolutions
    with stride 2, the first of the level before it, the others of that level's ReLU (RetinaNet);
    or every other row and column of the level before, without weights (Faster R-CNN).

    Two lighter kinds: "fpnlite" has separable 3x3 convolutions per level, "projection" nothing but
    the first convolution of each level (and the coarser levels).

    Example:
        maps = FPN()(backbone(images))  # {"P3": [B, H/8, W/8, 256], ..., "P7": ...}

    Args:
        filters: width of all maps.
        max_level: coarsest level.
        coarse_from: what the first added level is made of: the "pyramid"'s own coarsest map
            (FCOS) or the "backbone"'s (RetinaNet), convolved; "pool": lines are left out.
        coarse_relu: a ReLU before the convolutions of added levels after the first one.
        kind: "fpn", "fpnlite" or "projection", see above.
        lateral_kernel: size of the first convolution of each level.
        coarse_kernel: size of the convolutions of added levels.
    """

    def __init__(
        self,
        filters: int = 256,
        max_level: int = 7,
        coarse_from: Source = "pyramid",
        kind: Kind = "fpn",
        lateral_kernel: int = 1,
        coarse_kernel: int = 3,
        coarse_relu: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.coarse_relu = coarse_relu
        self.filters = filters
        self.max_level = max_level
        self.coarse_from = coarse_from
        self.kind = kind
        self.lateral_kernel = lateral_kernel
        self.coarse_kernel = coarse_kernel

    def build(self, input_shape: dict[str, tuple[int | None, ...]]) -> None:
        self.lateral = {
            name: self._conv(self.lateral_kernel, 1, f"lateral_{name.lower()}")
            for name in input_shape
        }
        self.output_convs = {}
        if self.kind != "projection":
            make = self._separable if self.kind == "fpnlite" else self._conv3
            self.output_convs = {name: make(f"output_{name.lower()}") for name in input_shape}
        last = max(int(name[1:]) for name in input_shape)
        self.coarse = {
            f"P{level}": None
            if self.coarse_from == "pool"
            else self._conv(self.coarse_kernel, 2, f"coarse_p{level}")
            for level in range(last + 1, self.max_level + 1)
        }
        super().build(input_shape)

    def _conv(self, size: int, strides: int, name: str) -> SymmetricConv2D:
        return SymmetricConv2D(
            self.filters, size, strides=strides, kernel_initializer=_INITIALIZER, name=name
        )

    def _conv3(self, name: str) -> SymmetricConv2D:
        return self._conv(3, 1, name)

    def _separable(self, name: str) -> SeparableConv2D:
        return SeparableConv2D(
            self.filters,
            3,
            padding="same",
            depthwise_initializer=_DEPTHWISE_INITIALIZER,
            pointwise_initializer=_INITIALIZER,
            name=name,
        )

    def call(self, features: dict[str, Tensor], training: bool | None = None) -> dict[str, Tensor]:
        maps = {name: self.lateral[name](feature) for name, feature in features.items()}
        if self.kind != "projection":
            maps = self._top_down(maps)
        last = list(features)[-1]
        x = features[last] if self.coarse_from == "backbone" else maps[last]
        for i, (name, conv) in enumerate(self.coarse.items()):
            if conv is None:
                x = maps[name] = x[:, ::2, ::2]
            else:
                x = maps[name] = conv(ops.relu(x) if i and self.coarse_relu else x)
        return maps

    def _top_down(self, lateral: dict[str, Any]) -> dict[str, Any]:
        merged, x = {}, None
        for name, own in reversed(list(lateral.items())):
            x = own if x is None else own + enlarge_nearest(x, own.shape[1:3])
            merged[name] = x
        return {name: self.output_convs[name](merged[name]) for name in lateral}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "max_level": self.max_level,
            "coarse_from": self.coarse_from,
            "kind": self.kind,
            "lateral_kernel": self.lateral_kernel,
            "coarse_kernel": self.coarse_kernel,
            "coarse_relu": self.coarse_relu,
        }
