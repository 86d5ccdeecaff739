"""FCOS, a detector without anchors: https://arxiv.org/abs/1904.01355."""

import dataclasses
from typing import Literal

import keras
import numpy as np
from keras import ops

from tfdet import registry
from tfdet.detectors.positives import Positives
from tfdet.detectors.postprocess import detections
from tfdet.detectors.pyramid import MAX_LEVEL, MIN_LEVEL, PyramidConfig, PyramidDetector
from tfdet.heads.fcos import FCOSHead
from tfdet.heads.packed import gap_count
from tfdet.losses.points import PointLossConfig, assign_points, point_loss_terms
from tfdet.ops import points as point_ops
from tfdet.ops.gather import gather_rows
from tfdet.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class FCOSConfig(PyramidConfig):
    """All that makes an FCOS or a PackDet; the defaults are the improved FCOS on ResNet-50.

    Attributes:
        normalize_distances: predict distances in strides, after a ReLU; otherwise in pixels, after
            an exponential (the first FCOS).
        centerness_tower: the tower that predicts centerness.
        point_style: where points stand in their cells, and whether boxes count their last pixel in:
            "fcos" as published, or as "mmdet" or "torchvision" has it, see `ops.points.Style`.
        loss: see `losses.points.PointLossConfig`.
    """

    normalize_distances: bool = True
    centerness_tower: Literal["class", "box"] = "box"
    point_style: point_ops.Style = "fcos"
    loss: PointLossConfig = dataclasses.field(default_factory=PointLossConfig)


@keras.saving.register_keras_serializable(package="tfdet")
class FCOS(PyramidDetector):
    """A backbone, an FPN, and a head that predicts boxes from the point at the middle of each cell.

    `call` takes images as a `Detector` and returns what `heads.fcos.FCOSHead` returns:
    `{"class_logits": [B, K, C], "box_distances": [B, K, 4], "centerness_logits": [B, K]}`.

    Example:
        model = tfdet.create("fcos-r50", num_classes=3)
        detections = model.predict(images)

    Args:
        config, backbone, neck, head: see `PyramidDetector`.
    """

    config_class = FCOSConfig
    term_names = ("class_loss", "box_loss", "centerness_loss")

    @staticmethod
    def make_head(config: FCOSConfig) -> FCOSHead:
        groups = config.packed.groups if config.packing else config.head_groups
        return FCOSHead(
            config.num_classes,
            config.normalize_distances,
            filters=config.head_filters,
            repeats=config.head_repeats,
            groups=groups,
            deformable=config.head_deformable,
            centerness=config.centerness_tower,
            packing=config.packing,
            name="head",
        )

    def cells(self, image_size: tuple[int, int], count: int) -> point_ops.Cells:
        """Where the first `count` predictions stand; without packing there are none for gaps."""
        size = (int(image_size[0]), int(image_size[1]))
        packing = self.config.packing
        gaps = gap_count(packing.pattern, size, MIN_LEVEL, MAX_LEVEL) if packing else 0
        cells = point_ops.cells(self.config.map_levels, size, gaps, self.config.point_style)
        return cells.first(count)

    def loss_terms(
        self, targets: dict[str, Tensor], raw: dict[str, Tensor], training: bool = False
    ) -> dict[str, Tensor]:
        cells = self.cells(self.image_size, raw["class_logits"].shape[1])
        loss = self.config.loss.for_images(self.image_size)
        return point_loss_terms(targets, raw, cells, loss, self.config.normalize_distances)

    def positives(self, boxes: Tensor, labels: Tensor) -> Positives:
        config, size = self.config, self.image_size
        cells = point_ops.cells(config.map_levels, size, style=config.point_style)
        loss = config.loss.for_images(size)
        assigned = assign_points(cells, boxes, labels, None, loss.center_radius, loss.reach)
        return Positives(cells.levels, np.asarray(assigned.objects))

    def decode(self, raw: dict[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        cells = self.cells(image_size, raw["class_logits"].shape[1])

        def boxes(rows: Tensor) -> Tensor:
            distances = ops.cast(gather_rows(raw["box_distances"], rows), "float32")
            if self.config.normalize_distances:
                distances *= ops.take(cells.strides, rows)[..., None]
            points = ops.take(cells.points, rows, axis=0)
            return point_ops.decode(distances, points, cells.last_pixel)

        return detections(
            raw["class_logits"],
            boxes,
            self.config.nms,
            image_size,
            cells.levels,
            raw["centerness_logits"],
        )


IMPROVED = FCOSConfig()
# MobileNet was published with the first FCOS's settings, and its batch norms are trained.
MOBILE = FCOSConfig(
    backbone="mnv2",
    batch_norm="synchronized",
    frozen_stages=0,
    normalize_distances=False,
    centerness_tower="class",
    loss=PointLossConfig(center_radius=0.0, box_loss="iou"),
)
# Ours: small enough to train on a CPU in minutes, and for unit tests.
NANO = FCOSConfig(
    image_size=(256, 256),
    num_classes=5,
    backbone="nano",
    pixels="imagenet",
    batch_norm="plain",
    frozen_stages=0,
    fpn_width=48,
    head_filters=48,
    head_repeats=4,
    head_groups=12,
    weight_decay=4e-5,
)
TEST = dataclasses.replace(
    NANO,
    image_size=(64, 64),
    backbone="test",
    fpn_width=12,
    head_filters=16,
    head_repeats=1,
    head_groups=4,
)

_TABLE = {
    "mnv2": MOBILE,
    "r50": IMPROVED,
    "r101": dataclasses.replace(IMPROVED, backbone="r101"),
    "x101-dcn": dataclasses.replace(IMPROVED, backbone="x101-dcn", head_deformable=True),
    "nano": NANO,
    "test": TEST,
}

for _name, _entry in _TABLE.items():
    registry.register(f"fcos-{_name}", FCOS, _entry)
