"""Two towers and the predictors at their ends, shared by all maps: FCOS, RetinaNet, PackDet."""

from typing import Any, Literal

import keras

from tfdet.layers.composite import Composite, on_each
from tfdet.layers.conv_block import ConvBlock
from tfdet.layers.initializers import RARE_CLASS_BIAS
from tfdet.layers.symmetric import SymmetricConv2D
from tfdet.tensors import Tensor

Tower = Literal["class", "box"]


@keras.saving.register_keras_serializable(package="tfdet")
class TowerPredictor(Composite):
    """A list of maps [B, H_l, W_l, C] to a dict of lists of maps: "class", "box", "centerness".

    The maps of "class" have `anchors_per_cell * num_classes` channels, anchor by anchor; those of
    "box" `anchors_per_cell * 4`; those of "centerness", where there is such a tower, one.

    Args:
        num_classes: classes without background.
        anchors_per_cell: anchors at each position; 1 for points.
        filters: width of the towers.
        repeats: convolutions of each tower before its predictor.
        groups: of the towers' group norms; 0 for none.
        deformable: the last convolution of each tower is deformable.
        centerness: the tower that predicts it; None for no such prediction.
    """

    def __init__(
        self,
        num_classes: int,
        anchors_per_cell: int = 1,
        filters: int = 256,
        repeats: int = 4,
        groups: int = 32,
        deformable: bool = False,
        centerness: Tower | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.anchors_per_cell = anchors_per_cell
        self.filters = filters
        self.repeats = repeats
        self.groups = groups
        self.deformable = deformable
        self.centerness = centerness
        self.class_tower = self._tower("class")
        self.box_tower = self._tower("box")
        self.class_conv = _prediction(num_classes * anchors_per_cell, "class_conv", RARE_CLASS_BIAS)
        self.box_conv = _prediction(4 * anchors_per_cell, "box_conv")
        self.centerness_conv = _prediction(1, "centerness_conv") if centerness else None

    def _tower(self, prefix: str) -> list[ConvBlock]:
        return [
            ConvBlock(
                self.filters,
                groups=self.groups,
                deformable=self.deformable and i == self.repeats - 1,
                name=f"{prefix}_tower_{i}",
            )
            for i in range(self.repeats)
        ]

    def call(self, maps: list[Tensor], joint: bool = False) -> dict[str, list[Tensor]]:
        ends = {"class": maps, "box": maps}
        for name, tower in (("class", self.class_tower), ("box", self.box_tower)):
            for block in tower:
                ends[name] = block(ends[name], joint=joint)
        predictions = {
            "class": on_each(self.class_conv, ends["class"]),
            "box": on_each(self.box_conv, ends["box"]),
        }
        if self.centerness_conv is not None:
            predictions["centerness"] = on_each(self.centerness_conv, ends[self.centerness])
        return predictions

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "anchors_per_cell": self.anchors_per_cell,
            "filters": self.filters,
            "repeats": self.repeats,
            "groups": self.groups,
            "deformable": self.deformable,
            "centerness": self.centerness,
        }


def _prediction(filters: int, name: str, bias: float = 0.0) -> SymmetricConv2D:
    return SymmetricConv2D(
        filters,
        3,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(bias),
        name=name,
    )
