"""EfficientDet D0 to D7x, lite0 to lite4 and lite3x: https://arxiv.org/abs/1911.09070."""

import dataclasses
from typing import Any, Literal

import keras
import numpy as np

from tfdet import registry
from tfdet.backbones.catalog import check_pixels
from tfdet.backbones.efficientnet import EfficientNet, check_scale, is_lite, own_activation
from tfdet.backbones.protocol import Backbone
from tfdet.detectors.backbone_detector import BackboneDetector
from tfdet.detectors.detector_config import NetworkConfig
from tfdet.detectors.positives import Positives, of_anchors
from tfdet.detectors.postprocess import postprocess
from tfdet.errors import UserError
from tfdet.heads.dense import DenseHead, head_levels
from tfdet.heads.packed import PackingConfig
from tfdet.heads.retina import RetinaTower
from tfdet.layers.activation import activation
from tfdet.layers.fusion import Method
from tfdet.losses.detection import LossConfig, dense_loss_terms
from tfdet.necks.feature_network import FeatureNetwork, NodeStyle
from tfdet.necks.topologies import FPNNode, topology
from tfdet.ops.anchors import AnchorConfig, anchor_levels, anchors
from tfdet.tensors import Tensor

# The backbone's, all of which a router may look at.
TAP_LEVELS = (1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True)
class EfficientDetConfig(NetworkConfig):
    """All that makes an EfficientDet: fields of `NetworkConfig` and these.

    The defaults are D0's. The published models have 90 classes, the range of COCO's ids, ten of
    which are never used.

    Attributes:
        backbone: scale of the EfficientNet. Those for phones, "lite0" to "lite4", come with
            `pixels` "lite" and `activation` "relu6".
        drop_connect: drop rate of the backbone's last block.
        pixels: "imagenet" or "lite", the mean and deviation that images are normalised with.
        fpn: name of a feature network (`necks.topologies.TOPOLOGIES`) or the nodes of its cell.
        fpn_fusion: how nodes add their inputs (`layers.fusion.Fusion`).
        fpn_width: channels of the feature network and the heads.
        fpn_cells: how often the cell is repeated.
        fpn_conv_bn_act: convolution, norm, activation in the nodes; the paper has the activation
            first.
        fpn_lateral_batch_norm: a batch norm after the 1x1 convolutions of lateral connections.
        fpn_pool_first: pool before those convolutions.
        head: "plain": a tower for classes and one for boxes, run on each level. "packed": PackDet's
            head over all levels at once, see `packed`; sides of images are multiples of 32.
        packed: of the packed head.
        head_repeats: convolutions in each head before its predictor.
        head_drop_rate: where not 0, the heads have residuals that are dropped at this rate.
        min_level, max_level: levels of the pyramid.
        num_scales, aspect_ratios, anchor_scale: the anchors, see `ops.anchors.AnchorConfig`.
        activation: of every layer.
        separable_conv: separable instead of dense convolutions in the neck and the heads.
        gradient_checkpointing: compute blocks, cells and head convolutions again for their
            gradients: less memory, more time.
        loss: see `losses.detection.LossConfig`.
    """

    num_classes: int = 90
    backbone: str = "b0"
    drop_connect: float = 0.0
    pixels: Literal["imagenet", "lite"] = "imagenet"
    fpn: str | tuple[FPNNode, ...] = "bifpn"
    fpn_fusion: Method = "fast"
    fpn_width: int = 64
    fpn_cells: int = 3
    fpn_conv_bn_act: bool = False
    fpn_lateral_batch_norm: bool = True
    fpn_pool_first: bool = False
    head: Literal["plain", "packed"] = "plain"
    packed: PackingConfig = dataclasses.field(default_factory=PackingConfig)
    head_repeats: int = 3
    head_drop_rate: float = 0.0
    min_level: int = 3
    max_level: int = 7
    num_scales: int = 3
    aspect_ratios: tuple[float | tuple[float, float], ...] = (1.0, 2.0, 0.5)
    anchor_scale: float | tuple[float, ...] = 4.0
    activation: str = "swish"
    separable_conv: bool = True
    gradient_checkpointing: bool = False
    weight_decay: float = 4e-5
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("fpn_width", "fpn_cells", "head_repeats", "num_scales")
        self.check_side(self.min_level)
        if not 1 <= self.min_level <= 5 <= self.max_level:
            raise UserError(
                "min_level must be 1 to 5 and max_level at least 5, got "
                f"{self.min_level} and {self.max_level}"
            )
        for name in ("drop_connect", "head_drop_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        check_scale(self.backbone)
        check_pixels(self.backbone, self.pixels)
        activation(self.activation)
        if is_lite(self.backbone) and self.activation != own_activation(self.backbone):
            raise UserError(
                f"the backbone {self.backbone!r} has ReLU6, got activation: {self.activation}; set "
                "activation: relu6"
            )
        topology(self.fpn, self.min_level, self.max_level)
        if self.head == "packed":
            self.packed.check(self.image_size, self.min_level, self.max_level, self.fpn_width)
        _ = self.anchors  # checks its own values

    @property
    def anchors(self) -> AnchorConfig:
        return AnchorConfig(
            self.min_level, self.max_level, self.num_scales, self.aspect_ratios, self.anchor_scale
        )

    @property
    def packing(self) -> PackingConfig | None:
        """The packed head's configuration where there is one."""
        return self.packed if self.head == "packed" else None

    @property
    def node_style(self) -> NodeStyle:
        return NodeStyle(
            filters=self.fpn_width,
            fusion=self.fpn_fusion,
            activation=self.activation,
            batch_norm=self.batch_norm,
            separable_conv=self.separable_conv,
            conv_bn_act=self.fpn_conv_bn_act,
            lateral_batch_norm=self.fpn_lateral_batch_norm,
            pool_first=self.fpn_pool_first,
        )


@keras.saving.register_keras_serializable(package="tfdet")
class EfficientDet(BackboneDetector):
    """EfficientNet, BiFPN, and two towers over anchors.

    `call` takes images as a `Detector` and returns `{"class_logits": [B, K, C],
    "box_codes": [B, K, 4]}`, with K anchors in the order level, row, column, scale, ratio. A packed
    head has more maps than levels, and the same anchors on each map of a level.

    Example:
        model = tfdet.create("efficientdet-d0", num_classes=3)
        detections = model.predict(images)

    Args:
        config: what to build.
        backbone, neck: other parts than those of the configuration. The backbone has the levels
            from `config.min_level` to P5; the neck returns those from `config.min_level` to
            `config.max_level`.
    """

    config_class = EfficientDetConfig

    def __init__(
        self,
        config: EfficientDetConfig,
        backbone: Backbone | None = None,
        neck: keras.layers.Layer | None = None,
        **kwargs: Any,
    ):
        names = ("class_loss", "box_loss") + (("iou_loss",) if config.loss.iou_loss else ())
        super().__init__(config, names, backbone, neck, **kwargs)
        self.class_net: keras.layers.Layer = None
        self.box_net: keras.layers.Layer = None
        self.packed_head: keras.layers.Layer = None
        if config.packing is None:
            self.class_net = self._tower("class", config.num_classes)
            self.box_net = self._tower("box", 4)
        else:
            self.packed_head = DenseHead(
                config.num_classes,
                config.anchors.anchors_per_cell,
                packing=config.packing,
                name="head",
            )

    def _tower(self, prefix: str, outputs: int) -> RetinaTower:
        config = self.config
        return RetinaTower(
            outputs,
            config.anchors.anchors_per_cell,
            prefix,
            filters=config.fpn_width,
            repeats=config.head_repeats,
            activation=config.activation,
            batch_norm=config.batch_norm,
            separable_conv=config.separable_conv,
            drop_rate=config.head_drop_rate,
            gradient_checkpointing=config.gradient_checkpointing,
            name=f"{prefix}_net",
        )

    def make_backbone(self) -> EfficientNet:
        config = self.config
        return EfficientNet(
            config.backbone,
            levels=TAP_LEVELS,
            drop_connect=config.drop_connect,
            activation=config.activation,
            batch_norm=config.batch_norm,
            gradient_checkpointing=config.gradient_checkpointing,
            name="backbone",
        )

    def make_neck(self) -> FeatureNetwork:
        config = self.config
        return FeatureNetwork(
            config.fpn,
            config.node_style,
            config.fpn_cells,
            config.min_level,
            config.max_level,
            config.gradient_checkpointing,
            name="neck",
        )

    @property
    def backbone_levels(self) -> tuple[str, ...]:
        return tuple(f"P{level}" for level in range(self.config.min_level, 6))

    @property
    def neck_levels(self) -> tuple[str, ...]:
        config = self.config
        return tuple(f"P{level}" for level in range(config.min_level, config.max_level + 1))

    @property
    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        return {"backbone": [self.backbone], **self._neck_parts(), **self._head_parts()}

    def _neck_parts(self) -> dict[str, list[keras.layers.Layer]]:
        if not isinstance(self.neck, FeatureNetwork):
            return {"neck": [self.neck]}
        return {"resample": list(self.neck.coarser.values()), "fpn_cells": self.neck.cells}

    def _head_parts(self) -> dict[str, list[keras.layers.Layer]]:
        if self.packed_head is not None:
            return {"head": [self.packed_head]}
        return {"class_net": [self.class_net], "box_net": [self.box_net]}

    def predictions(
        self,
        taps: dict[str, Tensor],
        training: bool | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> dict[str, Tensor]:
        maps = self.levels_of(taps, training)
        if self.packed_head is not None:
            return self.packed_head(maps, training=training)
        return {
            "class_logits": self.class_net(maps, training=training),
            "box_codes": self.box_net(maps, training=training),
        }

    def anchors(self, image_size: tuple[int, int]) -> np.ndarray:
        """[K, 4] xyxy, one per prediction."""
        return anchors(self.config.anchors, image_size, self._map_levels())

    def _map_levels(self) -> tuple[int, ...]:
        config = self.config
        return head_levels(config.packing, config.min_level, config.max_level)

    def loss_terms(
        self, targets: dict[str, Tensor], raw: dict[str, Tensor], training: bool = False
    ) -> dict[str, Tensor]:
        boxes = self.anchors(self.image_size)
        return dense_loss_terms(targets, raw, boxes, self.config.loss)

    def positives(self, boxes: Tensor, labels: Tensor) -> Positives:
        size = self.image_size
        levels = anchor_levels(self.config.anchors, size, self._map_levels())
        return of_anchors(self.anchors(size), levels, boxes, labels)

    def decode(self, raw: dict[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        return postprocess(
            raw["class_logits"],
            raw["box_codes"],
            self.anchors(image_size),
            self.config.nms,
            image_size,
            anchor_levels(self.config.anchors, image_size, self._map_levels()),
        )


def _config(
    backbone: str, size: int, width: int, cells: int, head_repeats: int, **other: Any
) -> EfficientDetConfig:
    return EfficientDetConfig(
        image_size=(size, size),
        backbone=backbone,
        fpn_width=width,
        fpn_cells=cells,
        head_repeats=head_repeats,
        **{"drop_connect": 0.2, **other},
    )


def _lite(
    backbone: str, size: int, width: int, cells: int, head_repeats: int, **other: Any
) -> EfficientDetConfig:
    other = {"activation": "relu6", "pixels": "lite", "fpn_fusion": "sum", **other}
    return _config(backbone, size, width, cells, head_repeats, **other)


# The published table. It is not what the paper's scaling formulas give: widths were rounded by
# hand, D5 has 7 cells and 1280 pixels, D7 keeps D6's width and depth. The plain sum of D6 to D7x is
# for stable training.
_TABLE = {
    "d0": _config("b0", 512, 64, 3, 3, drop_connect=0.0),
    "d1": _config("b1", 640, 88, 4, 3),
    "d2": _config("b2", 768, 112, 5, 3),
    "d3": _config("b3", 896, 160, 6, 4),
    "d4": _config("b4", 1024, 224, 7, 4),
    "d5": _config("b5", 1280, 288, 7, 4),
    "d6": _config("b6", 1280, 384, 8, 5, fpn_fusion="sum"),
    "d7": _config("b6", 1536, 384, 8, 5, fpn_fusion="sum", anchor_scale=5.0),
    "d7x": _config("b7", 1536, 384, 8, 5, fpn_fusion="sum", max_level=8),
    "lite0": _lite("lite0", 320, 64, 3, 3, anchor_scale=3.0),
    "lite1": _lite("lite1", 384, 88, 4, 3, anchor_scale=3.0),
    "lite2": _lite("lite2", 448, 112, 5, 3, anchor_scale=3.0),
    "lite3": _lite("lite3", 512, 160, 6, 4),
    "lite3x": _lite("lite3", 640, 200, 6, 4, anchor_scale=3.0),
    "lite4": _lite("lite4", 640, 224, 7, 4),
    # Ours: small enough to train on a CPU in minutes, and for unit tests.
    "nano": _config("nano", 256, 48, 2, 2, drop_connect=0.0),
    "test": _config("test", 64, 16, 1, 1, drop_connect=0.0),
}

for _name, _entry in _TABLE.items():
    registry.register(f"efficientdet-{_name}", EfficientDet, _entry)
