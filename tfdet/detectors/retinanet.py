"""RetinaNet (https://arxiv.org/abs/1708.02002), and with PackDet's packed head."""

import dataclasses
import math
from typing import Literal

import keras
import numpy as np

from tfdet import registry
from tfdet.detectors.positives import Positives, of_anchors
from tfdet.detectors.postprocess import postprocess
from tfdet.detectors.pyramid import MAX_LEVEL, MIN_LEVEL, PyramidConfig, PyramidDetector
from tfdet.heads.dense import DenseHead
from tfdet.heads.packed import PackingConfig
from tfdet.losses.retinanet import CODE_WEIGHTS, RetinaNetLossConfig, retinanet_loss_terms
from tfdet.necks.fpn import Source
from tfdet.ops.anchors import AnchorConfig, anchor_levels, anchors
from tfdet.ops.nms import NMSConfig
from tfdet.tensors import Tensor

# Boxes of more than 1000 pixels from an anchor's 16 are not believed (Detectron).
_MAX_LOG_SIZE = math.log(1000 / 16)


@dataclasses.dataclass(frozen=True)
class RetinaNetConfig(PyramidConfig):
    """All that makes a RetinaNet; the defaults are ResNet-50's on COCO.

    Attributes:
        num_scales, aspect_ratios, anchor_scale: the anchors, see `ops.anchors.AnchorConfig`. The
            ratios are width / height.
        anchor_style: "detectron", "corner" as in mmdetection, or "torchvision", see there.
        head_groups: of group norms in the towers, packed or not; the published ones have none.
        loss: see `losses.retinanet.RetinaNetLossConfig`.
    """

    coarse_from: Source = "backbone"
    num_scales: int = 3
    aspect_ratios: tuple[float, ...] = (2.0, 1.0, 0.5)
    anchor_scale: float = 4.0
    anchor_style: Literal["detectron", "corner", "torchvision"] = "detectron"
    head_groups: int = 0
    loss: RetinaNetLossConfig = dataclasses.field(default_factory=RetinaNetLossConfig)
    nms: NMSConfig = dataclasses.field(
        default_factory=lambda: NMSConfig(
            "hard",
            iou_threshold=0.4,
            max_candidates=1000,
            per_level=True,
            class_threshold=0.05,
            clips_first=True,
        )
    )

    @property
    def anchors(self) -> AnchorConfig:
        return AnchorConfig(
            MIN_LEVEL,
            MAX_LEVEL,
            self.num_scales,
            self.aspect_ratios,
            self.anchor_scale,
            self.anchor_style,
        )


@keras.saving.register_keras_serializable(package="tfdet")
class RetinaNet(PyramidDetector):
    """A backbone, an FPN, and two towers over anchors, packed where asked for.

    `call` takes images as a `Detector` and returns `{"class_logits": [B, K, C], "box_codes":
    [B, K, 4]}`, with K anchors in the order map, row, column, ratio, scale. A packed head has more
    maps than levels, and the same anchors on each map of a level.

    Example:
        model = tfdet.create("retinanet-r50", num_classes=3)
        detections = model.predict(images)

    Args:
        config, backbone, neck, head: see `PyramidDetector`.
    """

    config_class = RetinaNetConfig
    term_names = ("class_loss", "box_loss")

    @staticmethod
    def make_head(config: RetinaNetConfig) -> DenseHead:
        return DenseHead(
            config.num_classes,
            config.anchors.anchors_per_cell,
            filters=config.head_filters,
            repeats=config.head_repeats,
            groups=config.head_groups,
            deformable=config.head_deformable,
            packing=config.packing,
            name="head",
        )

    def anchors(self, image_size: tuple[int, int]) -> np.ndarray:
        """[K, 4] xyxy, one per prediction."""
        return anchors(self.config.anchors, image_size, self.config.map_levels)

    def loss_terms(
        self, targets: dict[str, Tensor], raw: dict[str, Tensor], training: bool = False
    ) -> dict[str, Tensor]:
        return retinanet_loss_terms(targets, raw, self.anchors(self.image_size), self.config.loss)

    def positives(self, boxes: Tensor, labels: Tensor) -> Positives:
        config, size = self.config, self.image_size
        levels = anchor_levels(config.anchors, size, config.map_levels)
        rules = {"positive_iou": config.loss.positive_iou, "rescue": "ties"}
        return of_anchors(self.anchors(size), levels, boxes, labels, **rules)

    def decode(self, raw: dict[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        return postprocess(
            raw["class_logits"],
            raw["box_codes"],
            self.anchors(image_size),
            self.config.nms,
            image_size,
            anchor_levels(self.config.anchors, image_size, self.config.map_levels),
            _MAX_LOG_SIZE,
            1 / CODE_WEIGHTS,
        )


_R50 = RetinaNetConfig()
# Ours, to be trained on small images without a GPU.
_NANO = RetinaNetConfig(
    image_size=(256, 256),
    num_classes=5,
    backbone="nano",
    pixels="imagenet",
    batch_norm="plain",
    frozen_stages=0,
    fpn_width=48,
    head_filters=48,
    head_repeats=4,
    packed=PackingConfig(filters=48, blocks=6, tower_repeats=1, groups=12),
    weight_decay=4e-5,
)
# Ours, for unit tests.
_TEST = RetinaNetConfig(
    image_size=(64, 64),
    num_classes=5,
    backbone="test",
    pixels="imagenet",
    batch_norm="plain",
    frozen_stages=0,
    fpn_width=10,
    head_filters=12,
    head_repeats=1,
    packed=PackingConfig(filters=8, blocks=2, tower_repeats=1, groups=2),
)

for _name, _entry in {
    "r50": _R50,
    "r101": dataclasses.replace(_R50, backbone="r101"),
    "nano": _NANO,
    "test": _TEST,
}.items():
    registry.register(f"retinanet-{_name}", RetinaNet, _entry)
    _entry = dataclasses.replace(_entry, head="packed")
    registry.register(f"retinanet-packop-{_name}", RetinaNet, _entry)
