"""The head of dense detectors: towers over the levels of a pyramid, packed or one by one."""

from typing import Any

import keras
from keras import ops

from tfdet import records
from tfdet.heads import packed
from tfdet.heads.predictor import Tower, TowerPredictor
from tfdet.layers.composite import Composite
from tfdet.ops import pack as pack_ops
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class DenseHead(Composite):
    """Maps {"P3": ..., "P7": ...} to {"class_logits": [B, K, classes], "box_codes": [B, K, 4]}.

    K counts the anchors in the order map, row, column, anchor of the cell. Without packing there is
    one map per level. With it the levels of the maps are `map_levels`, of which some repeat.

    Args:
        num_classes, anchors_per_cell, filters, repeats, groups, deformable, centerness: see
            `heads.predictor.TowerPredictor`; with packing, `filters` and `repeats`
            are the packing's.
        packing: a packed head, or None.
    """

    # Whether the cells of a packed map that belong to no map predict too.
    keeps_gaps = False

    def __init__(
        self,
        num_classes: int,
        anchors_per_cell: int = 9,
        filters: int = 256,
        repeats: int = 4,
        groups: int = 0,
        deformable: bool = False,
        centerness: Tower | None = None,
        packing: packed.PackingConfig | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.packing = packing
        self.stack = None
        if packing is not None:
            filters, repeats = packing.filters, packing.tower_repeats
            self.stack = packed.PackedStack(packing, name="stack")
        self.predictor = TowerPredictor(
            num_classes,
            anchors_per_cell,
            filters,
            repeats,
            groups,
            deformable,
            centerness,
            name="predictor",
        )

    def call(self, features: dict[str, Tensor], training: bool | None = None) -> dict[str, Tensor]:
        rows = self.predict(features, training)
        return {"class_logits": rows["class"], "box_codes": rows["box"]}

    def predict(self, features: dict[str, Tensor], training: bool | None) -> dict[str, Any]:
        """The predictor's maps as rows of one anchor or point each: {name: [B, K, numbers]}."""
        sizes = tuple(tuple(x.shape[1:3]) for x in features.values())
        maps, joint = list(features.values()), False
        if self.stack is not None:
            maps = self.stack(features, training=training)
            joint = self.stack.is_joint(training)
        predictions = self.predictor(maps, joint=joint)
        widths = {"class": self.predictor.num_classes, "box": 4, "centerness": 1}
        return {
            name: self._rows(maps, widths[name], sizes, training)
            for name, maps in predictions.items()
        }

    def _rows(self, maps: list[Tensor], width: int, sizes: Tensor, training: bool | None) -> Tensor:
        if self.stack is not None and self.stack.is_packed(training):
            rows = packed.packed_rows(maps[0], self.packing.pattern, sizes, self.keeps_gaps)
        else:
            cells = [ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3])) for x in maps]
            rows = ops.concatenate(cells, axis=1)
        return ops.reshape(rows, (-1, rows.shape[1] * (rows.shape[2] // width), width))

    def get_config(self) -> dict[str, Any]:
        packing = self.packing and records.to_dict(self.packing)
        names = ("num_classes", "anchors_per_cell", "filters", "repeats", "groups", "deformable")
        return {
            **super().get_config(),
            **{name: getattr(self.predictor, name) for name in names},
            "centerness": self.predictor.centerness,
            "packing": packing,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DenseHead":
        packing = config["packing"]
        packing = packing and records.from_dict(packed.PackingConfig, packing)
        return cls(**{**config, "packing": packing})


def head_levels(
    packing: packed.PackingConfig | None, min_level: int, max_level: int
) -> tuple[int, ...]:
    """The level of each map of a dense head, in the order of its rows."""
    levels = range(min_level, max_level + 1)
    if packing is None:
        return tuple(levels)
    return tuple(levels[i] for i in pack_ops.map_levels(packing.pattern, len(levels)))
