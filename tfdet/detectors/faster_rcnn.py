"""Faster R-CNN (https://arxiv.org/abs/1506.01497) with a feature pyramid, as mmdetection has it."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import keras

from tfdet import registry
from tfdet.backbones.catalog import check_pixels, make_backbone, resolve
from tfdet.backbones.encoding import Encoding
from tfdet.backbones.protocol import Backbone
from tfdet.detectors.backbone_detector import BackboneDetector
from tfdet.detectors.detector_config import NetworkConfig
from tfdet.detectors.positives import Positives, of_anchors
from tfdet.detectors.postprocess import region_detections
from tfdet.errors import UserError
from tfdet.heads.roi import BoxHead
from tfdet.heads.rpn import MAX_LOG_SIZE, ProposalConfig, Proposals, RPNHead
from tfdet.layers.batch_norm import Kind
from tfdet.layers.image_normalization import Pixels
from tfdet.layers.roi_align import RoIAlign
from tfdet.losses.roi import (
    CODE_WEIGHTS,
    RoILossConfig,
    box_head_loss_terms,
    class_codes,
    sample_proposals,
)
from tfdet.losses.rpn import RPNLossConfig, rpn_loss_terms
from tfdet.necks.fpn import FPN
from tfdet.ops import boxes as box_ops
from tfdet.ops.anchors import AnchorConfig, CornerStyle, anchor_levels, anchors
from tfdet.ops.gather import gather_rows
from tfdet.ops.nms import NMSConfig
from tfdet.ops.roi_align import Alignment
from tfdet.tensors import Tensor

MIN_LEVEL, MAX_LEVEL = 2, 6
# The coarsest level proposes only; regions are read from the others.
REGION_LEVELS = ("P2", "P3", "P4", "P5")


@dataclasses.dataclass(frozen=True)
class FasterRCNNConfig(NetworkConfig):
    """All that makes a Faster R-CNN: fields of `NetworkConfig` and these.

    The defaults are ResNet-50's on COCO.

    Attributes:
        backbone: a name in `backbones.catalog`, or the encoding of a ResNet: itself, JSON text, or
            the name of a .json file, see `backbones.encoding`.
        pixels: a key of `layers.image_normalization.PIXELS`; "lite" for EfficientNet-Lite.
        frozen_stages: parts of a ResNet that are not trained, see `backbones.resnet`.
        fpn_width: channels of the feature pyramid.
        anchor_scale, aspect_ratios: the anchors, see `ops.anchors.AnchorConfig`. The ratios are
            width / height.
        anchor_style: "corner" as in mmdetection, or "torchvision", see `ops.anchors.AnchorConfig`.
        rpn_filters: width of the region proposal network.
        proposals: see `heads.rpn.ProposalConfig`.
        rpn_loss: see `losses.rpn.RPNLossConfig`.
        sampling_ratio: samples in a bin of RoIAlign, 0 for as many as it has cells.
        roi_align: "aligned", or as "torchvision" has it: half a cell further to the right and down,
            in regions of at least one cell, see `ops.roi_align.roi_align`.
        finest_side: regions up to twice this side are read from the finest level.
        hidden: width of the box head.
        roi_loss: see `losses.roi.RoILossConfig`.
        sampling_seed: changes which anchors and proposals a training step looks at.
        gradient_checkpointing: compute the backbone's blocks again for their gradients.
    """

    image_size: tuple[int, int] = (800, 1344)
    backbone: str | Encoding = "r50-3x3"
    pixels: Pixels = "imagenet"
    batch_norm: Kind = "frozen"
    frozen_stages: int = 2
    fpn_width: int = 256
    anchor_scale: float = 8.0
    aspect_ratios: tuple[float, ...] = (2.0, 1.0, 0.5)
    anchor_style: CornerStyle = "corner"
    rpn_filters: int = 256
    proposals: ProposalConfig = dataclasses.field(default_factory=ProposalConfig)
    rpn_loss: RPNLossConfig = dataclasses.field(default_factory=RPNLossConfig)
    sampling_ratio: int = 2
    roi_align: Alignment = "aligned"
    finest_side: float = 56.0
    hidden: int = 1024
    roi_loss: RoILossConfig = dataclasses.field(default_factory=RoILossConfig)
    sampling_seed: int = 0
    gradient_checkpointing: bool = False
    weight_decay: float = 1e-4
    nms: NMSConfig = dataclasses.field(
        default_factory=lambda: NMSConfig(
            "hard",
            iou_threshold=0.5,
            score_threshold=0.05,
            max_candidates=2000,
            clips_first=True,
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "backbone", resolve(self.backbone))
        check_pixels(self.backbone, self.pixels)
        self.check_positive("fpn_width", "rpn_filters", "hidden")
        if self.sampling_ratio < 0:
            raise UserError(f"sampling_ratio must be at least 0, got {self.sampling_ratio}")
        if self.finest_side <= 0:
            raise UserError(f"finest_side must be greater than 0, got {self.finest_side}")
        self.check_side(MIN_LEVEL)

    @property
    def anchors(self) -> AnchorConfig:
        return AnchorConfig(
            MIN_LEVEL, MAX_LEVEL, 1, self.aspect_ratios, self.anchor_scale, self.anchor_style
        )


@keras.saving.register_keras_serializable(package="tfdet")
class FasterRCNN(BackboneDetector):
    """A backbone, an FPN, a network that proposes regions, and a head that looks at each of them.

    `call` takes images as a `Detector` and returns what both stages predict:

    - "maps": {"P2": [B, H/4, W/4, C], ...}, what regions are read from;
    - "objectness_logits" [B, K] and "anchor_codes" [B, K, 4] of K anchors;
    - "proposals" [B, P, 4] float32 xyxy and "is_proposal" [B, P];
    - except in training, "class_logits" [B, P, classes + 1] and "box_codes" [B, P, 4 * classes].

    In training the head sees a sample of proposals and objects instead, chosen in `loss_terms` by
    the step of the optimizer and `config.sampling_seed` alone.

    Example:
        model = tfdet.create("faster-rcnn-r50", num_classes=3)
        detections = model.predict(images)

    Args:
        config: what to build.
        backbone: another one than that of the configuration, with the levels P2 to P5.
        neck: another one, which makes of them {"P2": [B, H/4, W/4, C], ..., "P6": ...}.
    """

    config_class = FasterRCNNConfig
    term_names: ClassVar[tuple[str, ...]] = (
        "objectness_loss",
        "anchor_loss",
        "class_loss",
        "box_loss",
    )

    def __init__(
        self,
        config: FasterRCNNConfig,
        backbone: Backbone | None = None,
        neck: keras.layers.Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(config, self.term_names, backbone, neck, **kwargs)
        self.rpn = RPNHead(config.anchors.anchors_per_cell, config.rpn_filters, name="rpn")
        self.propose = Proposals(config.anchors, config.proposals, name="propose")
        self.align = self.make_align(7, "align")
        self.box_head = BoxHead(config.num_classes, config.hidden, name="box_head")

    def make_align(self, bins: int, name: str) -> RoIAlign:
        """What reads `bins` x `bins` features of each region."""
        config = self.config
        aligned = config.roi_align == "aligned"
        return RoIAlign(bins, config.sampling_ratio, config.finest_side, aligned, name=name)

    def make_backbone(self) -> Backbone:
        config = self.config
        return make_backbone(
            config.backbone,
            levels=(2, 3, 4, 5),
            batch_norm=config.batch_norm,
            frozen_stages=config.frozen_stages,
            gradient_checkpointing=config.gradient_checkpointing,
            role="first",
            name="backbone",
        )

    def make_neck(self) -> FPN:
        return FPN(self.config.fpn_width, MAX_LEVEL, "pool", name="neck")

    @property
    def backbone_levels(self) -> tuple[str, ...]:
        return REGION_LEVELS

    @property
    def neck_levels(self) -> tuple[str, ...]:
        return (*REGION_LEVELS, f"P{MAX_LEVEL}")

    @property
    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        return {
            "backbone": [self.backbone],
            "neck": [self.neck],
            "rpn": [self.rpn],
            "box_head": [self.box_head],
        }

    def predictions(
        self,
        taps: dict[str, Tensor],
        training: bool | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> dict[str, Tensor]:
        maps = self.levels_of(taps, training)
        raw = self.rpn(maps)
        size = image_size or self.image_size
        found = self.propose(raw, image_size=size, training=training)
        maps = {name: maps[name] for name in REGION_LEVELS}
        raw = {
            "maps": maps,
            **raw,
            "proposals": found["boxes"],
            "is_proposal": found["is_proposal"],
        }
        return raw if training else {**raw, **self.box_head(self.align(maps, found["boxes"]))}

    def pyramid(self, images: Tensor, training: bool | None = None) -> dict[str, Tensor]:
        """The maps of all levels, {"P2": [B, H/4, W/4, C], ..., "P6": ...}."""
        return self.levels_of(self.taps(images, training), training)

    def regions(self, maps: dict[str, Tensor], boxes: Tensor) -> dict[str, Tensor]:
        """What the box head reads and says of boxes [B, S, 4] in the maps of `REGION_LEVELS`.

        Returns "features" [B, S, 7, 7, C] and what `heads.roi.BoxHead` returns.
        """
        features = self.align(maps, boxes)
        return {"features": features, **self.box_head(features)}

    def loss_terms(
        self, targets: dict[str, Tensor], raw: dict[str, Tensor], training: bool = False
    ) -> dict[str, Tensor]:
        raw = self.sampled(targets, raw)
        # Of the maps, not of the configuration: canvases of other sizes can be trained on.
        size = tuple(side * 2**MIN_LEVEL for side in raw["maps"]["P2"].shape[1:3])
        boxes = anchors(self.config.anchors, size)
        return {
            **rpn_loss_terms(targets, raw, boxes, self.config.rpn_loss, (*self._seeds, 0)),
            **box_head_loss_terms(raw["regions"], raw["samples"], self.config.roi_loss.box_weight),
        }

    def positives(self, boxes: Tensor, labels: Tensor) -> Positives:
        """Those of the region proposal network; regions are made for all that it finds."""
        config, size = self.config, self.image_size
        own = anchors(config.anchors, size)
        rules = {"positive_iou": config.rpn_loss.positive_iou, "rescue": "ties"}
        rules["rescue_iou"] = config.rpn_loss.rescue_iou
        return of_anchors(own, anchor_levels(config.anchors, size), boxes, labels, **rules)

    def sampled(self, targets: dict[str, Tensor], raw: dict[str, Tensor]) -> dict[str, Any]:
        """Raw predictions with what the heads learn from in this step; `raw` itself if it has that.

        - "samples": proposals and objects, see `losses.roi.Samples`;
        - "regions": what `regions` returns for their boxes.
        """
        if "samples" in raw:
            return raw
        samples = sample_proposals(
            targets,
            raw["proposals"],
            raw["is_proposal"],
            self.config.roi_loss,
            (*self._seeds, 1),
        )
        return {**raw, "samples": samples, "regions": self.regions(raw["maps"], samples.boxes)}

    @property
    def halves(self) -> tuple[Callable[[Any], Any], Callable[[Any], dict[str, Tensor]]]:
        """As `Detector.halves`: proposals are boxes, so that floats begin behind the backbone."""

        def after(taps: dict[str, Tensor]) -> dict[str, Tensor]:
            raw = self.predictions(taps, training=False, image_size=self.image_size)
            return self.decode(raw, self.image_size)

        return lambda canvas: self.taps(canvas, training=False), after

    def decode(self, raw: dict[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        def boxes(rows: Tensor, labels: Tensor) -> Tensor:
            codes = class_codes(gather_rows(raw["box_codes"], rows), labels) / CODE_WEIGHTS
            return box_ops.decode(codes, gather_rows(raw["proposals"], rows), MAX_LOG_SIZE)

        return region_detections(
            raw["class_logits"], boxes, self.config.nms, image_size, raw["is_proposal"]
        )

    @property
    def _seeds(self) -> tuple[Any, Any]:
        # The optimizer's step, which a run that goes on gets back.
        return self.config.sampling_seed, self.steps_done


_R50 = FasterRCNNConfig()
# Ours, to be trained on small images without a GPU.
NANO = FasterRCNNConfig(
    image_size=(160, 160),
    num_classes=5,
    backbone="nano",
    batch_norm="plain",
    frozen_stages=0,
    fpn_width=48,
    anchor_scale=4.0,
    rpn_filters=48,
    proposals=ProposalConfig(training_candidates=400, candidates=200, count=200),
    rpn_loss=RPNLossConfig(samples=128),
    finest_side=28.0,
    hidden=128,
    roi_loss=RoILossConfig(samples=96),
    weight_decay=4e-5,
)
# Ours, for unit tests.
TEST = dataclasses.replace(
    NANO,
    image_size=(64, 64),
    backbone="test",
    fpn_width=10,
    rpn_filters=8,
    proposals=ProposalConfig(training_candidates=60, candidates=30, count=40),
    rpn_loss=RPNLossConfig(samples=32),
    hidden=16,
    roi_loss=RoILossConfig(samples=24),
)

for _name, _entry in {
    "r18": dataclasses.replace(_R50, backbone="r18"),
    "r50": _R50,
    "r101": dataclasses.replace(_R50, backbone="r101-3x3"),
    "x101": dataclasses.replace(_R50, backbone="x101-32x4d"),
    "nano": NANO,
    "test": TEST,
}.items():
    registry.register(f"faster-rcnn-{_name}", FasterRCNN, _entry)
