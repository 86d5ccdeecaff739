"""YOLOv7, YOLOv7-X and YOLOv7-W6: https://arxiv.org/abs/2207.02696."""

import dataclasses
from typing import Any

import keras

from tfdet import registry
from tfdet.backbones.protocol import Backbone
from tfdet.backbones.yolov7 import Variant, YoloV7Backbone
from tfdet.detectors.backbone_detector import BackboneDetector
from tfdet.detectors.detector_config import NetworkConfig
from tfdet.detectors.postprocess import object_detections
from tfdet.errors import UserError
from tfdet.heads.yolo import YoloHead
from tfdet.layers.blocks import Style
from tfdet.losses.ota import OtaLossConfig, ota_loss_terms, ota_losses_per_image
from tfdet.necks.yolov7 import NECKS, YoloV7Neck
from tfdet.ops import anchor_grid
from tfdet.ops.anchor_grid import AnchorGrid
from tfdet.ops.gather import gather_rows
from tfdet.ops.nms import NMSConfig
from tfdet.tensors import Tensor

_GRIDS = {
    "v7": anchor_grid.YOLOV7,
    "x": anchor_grid.YOLOV7,
    "w6": anchor_grid.YOLOV7_W6,
}
_GRAY = (114.0,) * 3


@dataclasses.dataclass(frozen=True)
class YoloV7Config(NetworkConfig):
    """All that makes a YOLOv7: fields of `NetworkConfig` and these.

    The defaults are the published YOLOv7's. Sides of images are multiples of 32, or 64 for "w6".
    The score that NMS sees is that of the object times that of the class. The published weight
    decay is the optimizer's, not `weight_decay`.

    Attributes:
        variant: which tables of blocks (`backbones.yolov7.LEVELS`, `necks.yolov7.NECKS`).
        width, depth: multiples of the published channels and of the lengths of the blocks, see
            `layers.blocks.Style`.
        anchor_scale: multiple of the published anchors' sides.
        implicit: implicit vectors in the heads.
        auxiliary_heads: four more heads that only help training; of "w6". They were published with
            `loss.top_k` 20.
        borrows_p2: as the second detector of a cascade, read the first one's P2 in the place of
            its own in the strided convolution that leads to P3. Of "x": the published Dy-YOLOv7-X
            was trained so.
        merged: the form for inference, where batch norms, RepConv's branches and implicit vectors
            are merged into convolutions; `Detector.for_inference` makes it of a trained model.
        loss: see `losses.ota.OtaLossConfig`.
    """

    image_size: tuple[int, int] = (640, 640)
    variant: Variant = "v7"
    width: float = 1.0
    depth: float = 1.0
    anchor_scale: float = 1.0
    implicit: bool = True
    auxiliary_heads: bool = False
    borrows_p2: bool = False
    merged: bool = False
    loss: OtaLossConfig = dataclasses.field(default_factory=OtaLossConfig)
    nms: NMSConfig = dataclasses.field(
        default_factory=lambda: NMSConfig(
            "hard",
            iou_threshold=0.65,
            score_threshold=0.001,
            max_candidates=30_000,
            max_detections=300,
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "depth", "anchor_scale"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.auxiliary_heads and not NECKS[self.variant].auxiliary:
            raise UserError(f"auxiliary_heads are for the variant 'w6', not {self.variant!r}")
        if self.borrows_p2 and self.variant == "w6":
            raise UserError("borrows_p2 is for the variants 'x' and 'v7', not 'w6'")
        if self.nms.per_level:
            raise UserError("YOLOv7 has no nms.per_level; its candidates are those of all levels")
        anchor_grid.map_sizes(self.grid, self.image_size)  # checks the size

    @property
    def grid(self) -> AnchorGrid:
        """Cells and anchors of the predictions."""
        published = _GRIDS[self.variant]
        scale = self.anchor_scale
        anchors = tuple(tuple((w * scale, h * scale) for w, h in x) for x in published.anchors)
        return AnchorGrid(published.strides, anchors)

    @property
    def style(self) -> Style:
        return Style(self.width, self.depth, self.batch_norm, self.merged)


@keras.saving.register_keras_serializable(package="tfdet")
class YoloV7(BackboneDetector):
    """`backbone -> neck -> head`, anchors on three levels, or four for the variant "w6".

    `call` takes images as a `Detector` and returns what `heads.yolo.YoloHead` returns:
    `{"box_codes": [B, K, 4], "object_logits": [B, K], "class_logits": [B, K, C]}`, and the same of
    the auxiliary heads under "auxiliary" where there are such.

    Example:
        model = tfdet.create("yolov7", num_classes=3)
        detections = model.predict(images)

    Args:
        config: what to build.
        backbone, neck: other parts than those of the configuration, from P3 to P5, or P6 for the
            variant "w6". Pixels are 0-1.
    """

    config_class = YoloV7Config

    def __init__(
        self,
        config: YoloV7Config,
        backbone: Backbone | None = None,
        neck: keras.layers.Layer | None = None,
        **kwargs: Any,
    ):
        if backbone is not None and config.borrows_p2:
            raise UserError("borrows_p2 needs the published backbone; leave it false with another")
        if neck is not None and config.auxiliary_heads:
            raise UserError("auxiliary_heads need the published neck; leave them out with another")
        names = ("box_loss", "object_loss", "class_loss")
        super().__init__(config, names, backbone, neck, **kwargs)
        self.head = self._head(config.implicit, "head")
        self.aux_head: keras.layers.Layer = (
            self._head(False, "aux_head") if self._has_auxiliary else None
        )

    @property
    def _has_auxiliary(self) -> bool:
        return self.config.auxiliary_heads and not self.config.merged

    def make_backbone(self) -> YoloV7Backbone:
        return YoloV7Backbone(self.config.variant, self.config.style, name="backbone")

    def make_neck(self) -> YoloV7Neck:
        config = self.config
        return YoloV7Neck(config.variant, config.style, self._has_auxiliary, name="neck")

    def _head(self, implicit: bool, name: str) -> YoloHead:
        grid = self.config.grid
        return YoloHead(
            self.config.num_classes,
            grid.strides,
            grid.anchors_per_cell,
            implicit,
            self.config.merged,
            name=name,
        )

    @property
    def pixels(self) -> str:
        return "unit"

    @property
    def backbone_levels(self) -> tuple[str, ...]:
        return self.neck_levels

    @property
    def neck_levels(self) -> tuple[str, ...]:
        return tuple(f"P{3 + i}" for i in range(len(self.config.grid.strides)))

    @property
    def pad_value(self) -> tuple[float, float, float]:
        return _GRAY

    @property
    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        auxiliary = {} if self.aux_head is None else {"aux_head": [self.aux_head]}
        return {"backbone": [self.backbone], "neck": [self.neck], "head": [self.head], **auxiliary}

    def taps_after(
        self,
        images: Tensor,
        first: dict[str, Tensor],
        added: dict[str, Tensor],
        training: bool | None = None,
    ) -> dict[str, Tensor]:
        if not self.config.borrows_p2:
            return self.taps(images, training, added)
        expected, width = self.tap_channels["P2"], first["P2"].shape[-1]
        if width != expected:
            raise UserError(
                f"borrows_p2 needs a first detector with {expected} channels in P2, this one has "
                f"{width}"
            )
        return self.backbone(
            self.normalization(images),
            training=training,
            added=added,
            strided_input={"P3": first["P2"]},
        )

    def predictions(
        self,
        taps: dict[str, Tensor],
        training: bool | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> dict[str, Tensor]:
        maps = self.levels_of(taps, training)
        auxiliary = {level: maps.pop(level) for level in list(maps) if level.startswith("aux_")}
        raw = self.head(maps)
        return {**raw, "auxiliary": self.aux_head(auxiliary)} if auxiliary else raw

    def loss_terms(
        self, targets: dict[str, Tensor], raw: dict[str, Tensor], training: bool = False
    ) -> dict[str, Tensor]:
        config = self.config
        return ota_loss_terms(
            targets, raw, config.grid, config.image_size, config.loss, raw.get("auxiliary")
        )

    def losses_per_image(self, targets: dict[str, Tensor], raw: dict[str, Tensor]) -> Tensor:
        if "auxiliary" in raw:
            return super().losses_per_image(targets, raw)
        config = self.config
        return ota_losses_per_image(targets, raw, config.grid, config.image_size, config.loss)

    def decode(self, raw: dict[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        boxes = anchor_grid.decode(raw["box_codes"], self.config.grid, image_size)
        return object_detections(
            raw["class_logits"],
            raw["object_logits"],
            lambda rows: gather_rows(boxes, rows),
            self.config.nms,
            image_size,
        )

    def inference_form(self) -> "YoloV7":
        if self.config.merged:
            return self
        # Parts that were passed in have no other form: both detectors have them.
        parts = {name: getattr(self, name) for name in self._passed_in}
        return YoloV7(dataclasses.replace(self.config, merged=True), **parts, name=self.name)


_V7 = YoloV7Config()
# Ours: small enough to train on a CPU in minutes, and for unit tests.
_NANO = YoloV7Config(
    image_size=(160, 160), num_classes=5, width=1 / 8, depth=1 / 2, anchor_scale=1 / 2
)
_TEST = dataclasses.replace(_NANO, image_size=(64, 64), width=1 / 32, anchor_scale=1 / 4)

_TABLE = {
    "yolov7": _V7,
    "yolov7-x": dataclasses.replace(_V7, variant="x"),
    "yolov7-w6": dataclasses.replace(_V7, variant="w6", image_size=(1280, 1280)),
    "yolov7-nano": _NANO,
    "yolov7-test": _TEST,
}

for _name, _entry in _TABLE.items():
    registry.register(_name, YoloV7, _entry)
