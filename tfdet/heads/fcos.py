"""The head of FCOS (https://arxiv.org/abs/1904.01355) and, packed, of PackDet."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfdet.heads.dense import DenseHead, head_levels
from tfdet.ops.gather import take_rows
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class FCOSHead(DenseHead):
    """Maps {"P3": ..., "P7": ...} to classes, distances and centerness of points.

    Returns `{"class_logits": [B, K, classes], "box_distances": [B, K, 4] float32 >= 0 (left, top,
    right, bottom), "centerness_logits": [B, K]}`, with K in the order map, row, column; the gaps of
    a packed map predict too and come last. A learnt scalar per level scales the distances.

    Args:
        num_classes: classes without background.
        normalize_distances: distances are in strides, after a ReLU; otherwise in pixels, after an
            exponential (the first FCOS).
        **kwargs: see `heads.dense.DenseHead`.
    """

    keeps_gaps = True

    def __init__(self, num_classes: int, normalize_distances: bool = True, **kwargs: Any):
        defaults = {"anchors_per_cell": 1, "groups": 32, "centerness": "box"}
        super().__init__(num_classes, **{**defaults, **kwargs})
        self.normalize_distances = normalize_distances

    def build(self, input_shape: dict[str, tuple[int | None, ...]]) -> None:
        self.scales = self.add_weight(name="scales", shape=(len(input_shape),), initializer="ones")
        super().build(input_shape)

    def call(self, features: dict[str, Tensor], training: bool | None = None) -> dict[str, Tensor]:
        rows = self.predict(features, training)
        scales = ops.cast(self.scales, "float32")[:, None]
        scale = take_rows(scales, self._level_indices(features, rows["box"].shape[1]))  # [K, 1]
        distances = ops.cast(rows["box"], "float32") * scale
        activation = ops.relu if self.normalize_distances else ops.exp
        return {
            "class_logits": rows["class"],
            "box_distances": activation(distances),
            "centerness_logits": rows["centerness"][..., 0],
        }

    def _level_indices(self, features: dict[str, Tensor], count: int) -> np.ndarray:
        """[count] int32: 0 for cells of the finest level and for gaps, 1 for the next level, ..."""
        maps = list(features.values())
        levels = head_levels(self.packing, 0, len(maps) - 1)
        cells = [maps[level].shape[1] * maps[level].shape[2] for level in levels]
        indices = np.repeat(np.array(levels, np.int32), cells)
        return np.pad(indices, (0, count - len(indices)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "normalize_distances": self.normalize_distances}
