"""What FCOS, PackDet and RetinaNet share: any backbone, an FPN, and one head for all levels."""

import dataclasses
from typing import Any, Literal

import keras

from tfdet.backbones.catalog import make_backbone, resolve
from tfdet.backbones.encoding import Encoding
from tfdet.detectors.tapped import TappedDetector
from tfdet.errors import UserError
from tfdet.heads.dense import DenseHead, head_levels
from tfdet.heads.packed import PackingConfig
from tfdet.layers.batch_norm import Kind
from tfdet.layers.image_normalization import PIXELS, ImageNormalization
from tfdet.necks.fpn import FPN, Source
from tfdet.necks.fpn import Kind as NeckKind
from tfdet.ops.nms import NMSConfig

MIN_LEVEL, MAX_LEVEL = 3, 7


@dataclasses.dataclass(frozen=True)
class PyramidConfig:
    """The keys that FCOS, PackDet and RetinaNet share; the defaults are ResNet-50's on COCO.

    Attributes:
        image_size: (height, width) of the canvas. A packed head wants multiples of 32 from 64 on.
        num_classes: classes without background.
        class_names, class_ids: a name and the data set's own id per class; may be empty.
        backbone: a name in `backbones.catalog`, or the encoding of a ResNet: itself, JSON text, or
            the name of a .json file, see `backbones.encoding`.
        pixels: a key of `layers.image_normalization.PIXELS`.
        batch_norm: "plain", "synchronized" over replicas, or "frozen".
        frozen_stages: parts of a ResNet that are not trained, see `backbones.resnet`.
        fpn_width: channels of the feature pyramid.
        coarse_from: what P6 is made of, see `necks.fpn.FPN`.
        neck: "fpn"; "fpnlite" with separable convolutions; "projection" with a convolution per
            level and nothing else.
        lateral_kernel: size of the neck's first convolution on each level.
        coarse_kernel: size of its convolutions for levels that the backbone does not have.
        head: "plain": towers of `head_filters` x `head_repeats` on each level. "packed": all levels
            in one map, see `packed`.
        head_filters, head_repeats: of the plain head.
        head_groups: of the group norms in the plain head; 0 for no norm.
        head_deformable: the last convolution of each tower is deformable.
        packed: of the packed head.
        gradient_checkpointing: compute the backbone's blocks again for their gradients.
        weight_decay: factor of the L2 loss.
        nms: see `ops.nms.NMSConfig`.
    """

    image_size: tuple[int, int] = (800, 1344)
    num_classes: int = 80
    class_names: tuple[str, ...] = ()
    class_ids: tuple[int, ...] = ()
    backbone: str | Encoding = "r50"
    pixels: Literal["detectron", "imagenet"] = "detectron"
    batch_norm: Kind = "frozen"
    frozen_stages: int = 2
    fpn_width: int = 256
    coarse_from: Source = "pyramid"
    neck: NeckKind = "fpn"
    lateral_kernel: int = 1
    coarse_kernel: int = 3
    head: Literal["plain", "packed"] = "plain"
    head_filters: int = 256
    head_repeats: int = 4
    head_groups: int = 32
    head_deformable: bool = False
    packed: PackingConfig = dataclasses.field(default_factory=PackingConfig)
    gradient_checkpointing: bool = False
    weight_decay: float = 1e-4
    nms: NMSConfig = dataclasses.field(
        default_factory=lambda: NMSConfig(
            "hard",
            iou_threshold=0.6,
            max_candidates=1000,
            per_level=True,
            class_threshold=0.05,
            clips_first=True,
        )
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbone", resolve(self.backbone))
        for name in ("fpn_width", "head_filters", "head_repeats"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.weight_decay < 0:
            raise UserError(f"weight_decay must be at least 0, got {self.weight_decay}")
        if self.head_groups and self.head_filters % self.head_groups:
            raise UserError(
                f"head_filters={self.head_filters} cannot be split into "
                f"head_groups={self.head_groups}"
            )
        for name in ("lateral_kernel", "coarse_kernel"):
            if getattr(self, name) < 1 or getattr(self, name) % 2 == 0:
                raise UserError(f"{name} must be odd, got {getattr(self, name)}")
        if min(self.image_size) < 2**MIN_LEVEL:
            raise UserError(
                f"image_size must be at least {2**MIN_LEVEL} on each side, got "
                f"{self.image_size[0]}x{self.image_size[1]}"
            )
        if self.packing is not None:
            self.packing.check(self.image_size, MIN_LEVEL, MAX_LEVEL, self.fpn_width)

    @property
    def packing(self) -> PackingConfig | None:
        """The packed head's configuration where there is one."""
        return self.packed if self.head == "packed" else None

    @property
    def map_levels(self) -> tuple[int, ...]:
        """The level of each map that predicts."""
        return head_levels(self.packing, MIN_LEVEL, MAX_LEVEL)


class PyramidDetector(TappedDetector):
    """`backbone -> FPN -> head`; subclasses give the head, the losses and the decoding.

    Args:
        config: what to build.
        loss_names: see `Detector`.
        head: maps {"P3": ..., "P7": ...} to raw predictions.
        backbone: images, normalised, to maps {"P3": ...}; that of the configuration where not
            given.
        extra_losses: names of losses beside those of the head.
    """

    # Everything but biases, as published.
    decayed = ("kernel", "gamma", "scales")

    def __init__(
        self,
        config: PyramidConfig,
        loss_names: tuple[str, ...],
        head: DenseHead,
        backbone: keras.layers.Layer | None = None,
        extra_losses: tuple[str, ...] = (),
        **kwargs: Any,
    ):
        super().__init__(config, (*loss_names, *extra_losses), **kwargs)
        self.normalization = ImageNormalization(*PIXELS[config.pixels], name="normalization")
        self.backbone = backbone or make_backbone(
            config.backbone,
            levels=(3, 4, 5),
            batch_norm=config.batch_norm,
            frozen_stages=config.frozen_stages,
            gradient_checkpointing=config.gradient_checkpointing,
            name="backbone",
        )
        self.neck = FPN(
            config.fpn_width,
            MAX_LEVEL,
            config.coarse_from,
            config.neck,
            config.lateral_kernel,
            config.coarse_kernel,
            name="neck",
        )
        self.head = head

    @property
    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        return {"backbone": [self.backbone], "neck": [self.neck], "head": [self.head]}

    @property
    def has_constant_norms(self) -> bool:
        return self.config.batch_norm == "frozen"

    def predictions(
        self,
        taps: dict[str, Any],
        training: bool | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> dict[str, Any]:
        return self.head(self.neck(taps), training=training)
