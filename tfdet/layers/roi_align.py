"""RoIAlign as a layer."""

from typing import Any

import keras

from tfdet.ops import roi_align as roi_ops
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class RoIAlign(keras.layers.Layer):
    """Maps {"P2": [B, H, W, C], ...} and boxes [B, N, 4] to [B, N, bins, bins, C].

    Each box reads the level that fits its size, see `ops.roi_align.region_levels`.

    Args:
        bins: along each side of a box.
        sampling_ratio: see `ops.roi_align.roi_align`.
        finest_side: boxes up to twice as large read the finest level.
        aligned: see `ops.roi_align.roi_align`.
    """

    # crop_and_resize has no XLA kernel.
    supports_jit = False

    def __init__(
        self,
        bins: int = 7,
        sampling_ratio: int = 2,
        finest_side: float = 56.0,
        aligned: bool = True,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.bins = bins
        self.sampling_ratio = sampling_ratio
        self.finest_side = finest_side
        self.aligned = aligned
        self.built = True

    def call(self, maps: dict[str, Tensor], boxes_xyxy: Tensor) -> Tensor:
        names = sorted(maps, key=lambda name: int(name[1:]))
        first, last = int(names[0][1:]), int(names[-1][1:])
        return roi_ops.roi_align(
            {name: maps[name] for name in names},
            boxes_xyxy,
            roi_ops.region_levels(boxes_xyxy, first, last, self.finest_side),
            (self.bins, self.bins),
            self.sampling_ratio,
            self.aligned,
        )

    def compute_output_spec(self, maps: dict[str, Tensor], boxes_xyxy: Tensor) -> keras.KerasTensor:
        example = next(iter(maps.values()))
        shape = (*boxes_xyxy.shape[:2], self.bins, self.bins, example.shape[-1])
        return keras.KerasTensor(shape, example.dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "bins": self.bins,
            "sampling_ratio": self.sampling_ratio,
            "finest_side": self.finest_side,
            "aligned": self.aligned,
        }
