"""What FCOS, PackDet and RetinaNet share: any backbone, an FPN, and one head for all levels."""

import dataclasses
from typing import Any, ClassVar, Literal

import keras

from tfdet.backbones.catalog import check_pixels, make_backbone, resolve
from tfdet.backbones.encoding import Encoding
from tfdet.backbones.protocol import Backbone
from tfdet.detectors.backbone_detector import BackboneDetector
from tfdet.detectors.detector_config import NetworkConfig
from tfdet.errors import UserError
from tfdet.heads.dense import DenseHead, head_levels
from tfdet.heads.packed import PackingConfig
from tfdet.layers.batch_norm import Kind
from tfdet.layers.image_normalization import Pixels
from tfdet.necks.fpn import FPN, Source
from tfdet.necks.fpn import Kind as NeckKind
from tfdet.ops.nms import NMSConfig
from tfdet.tensors import Tensor

MIN_LEVEL, MAX_LEVEL = 3, 7


@dataclasses.dataclass(frozen=True)
class PyramidConfig(NetworkConfig):
    """The keys that FCOS, PackDet and RetinaNet share: fields of `NetworkConfig` and these.

    The defaults are ResNet-50's on COCO. Sides of images are multiples of 32, from 64 on, with a
    packed head.

    Attributes:
        backbone: a name in `backbones.catalog`, or the encoding of a ResNet: itself, JSON text, or
            the name of a .json file, see `backbones.encoding`.
        pixels: a key of `layers.image_normalization.PIXELS`; "lite" for EfficientNet-Lite.
        frozen_stages: parts of a ResNet that are not trained, see `backbones.resnet`.
        fpn_width: channels of the feature pyramid.
        coarse_from: what P6 is made of, see `necks.fpn.FPN`.
        coarse_relu: a ReLU between P6 and the convolution to P7; mmdetection's RetinaNet has none.
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
    """

    image_size: tuple[int, int] = (800, 1344)
    backbone: str | Encoding = "r50"
    pixels: Pixels = "detectron"
    batch_norm: Kind = "frozen"
    frozen_stages: int = 2
    fpn_width: int = 256
    coarse_from: Source = "pyramid"
    coarse_relu: bool = True
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
        super().__post_init__()
        object.__setattr__(self, "backbone", resolve(self.backbone))
        check_pixels(self.backbone, self.pixels)
        self.check_positive("fpn_width", "head_filters", "head_repeats")
        if self.head_groups and self.head_filters % self.head_groups:
            raise UserError(
                f"head_filters={self.head_filters} cannot be split into "
                f"head_groups={self.head_groups}"
            )
        for name in ("lateral_kernel", "coarse_kernel"):
            if getattr(self, name) < 1 or getattr(self, name) % 2 == 0:
                raise UserError(f"{name} must be odd, got {getattr(self, name)}")
        self.check_side(MIN_LEVEL)
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


class PyramidDetector(BackboneDetector):
    """`backbone -> FPN -> head`; subclasses make the head, and have the losses and the decoding.

    Of a backbone that is passed in, the levels from P3 to at most P7 are read; the neck makes those
    that it lacks. A neck makes {"P3": [B, H/8, W/8, C], ..., "P7": ...}, and a head raw predictions
    of them, see `call`.

    Args:
        config: what to build.
        backbone, neck, head: other parts than those of the configuration.
        extra_losses: names of losses beside those of the head.
    """

    # Everything but biases, as published.
    decayed = ("kernel", "gamma", "scales")
    # Names of the losses of the head.
    term_names: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        config: PyramidConfig,
        backbone: Backbone | None = None,
        neck: keras.layers.Layer | None = None,
        head: keras.layers.Layer | None = None,
        extra_losses: tuple[str, ...] = (),
        **kwargs: Any,
    ):
        # The head comes first: the seeds of initial values follow the order.
        own_head = self.make_head(config) if head is None else head
        super().__init__(config, (*self.term_names, *extra_losses), backbone, neck, **kwargs)
        self.head = own_head
        self._keep_passed_in(head=head)

    @staticmethod
    def make_head(config: Any) -> DenseHead:
        """The head of the configuration."""
        raise NotImplementedError

    def make_backbone(self) -> Backbone:
        config = self.config
        return make_backbone(
            config.backbone,
            levels=(3, 4, 5),
            batch_norm=config.batch_norm,
            frozen_stages=config.frozen_stages,
            gradient_checkpointing=config.gradient_checkpointing,
            name="backbone",
        )

    def make_neck(self) -> FPN:
        config = self.config
        return FPN(
            config.fpn_width,
            MAX_LEVEL,
            config.coarse_from,
            config.neck,
            config.lateral_kernel,
            config.coarse_kernel,
            config.coarse_relu,
            name="neck",
        )

    @property
    def backbone_levels(self) -> tuple[str, ...]:
        pyramid = (name for name in self.neck_levels if name in self.tap_channels)
        last = max(pyramid, default="P3")
        return tuple(name for name in self.neck_levels if name <= last)

    @property
    def neck_levels(self) -> tuple[str, ...]:
        return tuple(f"P{level}" for level in range(MIN_LEVEL, MAX_LEVEL + 1))

    @property
    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        return {"backbone": [self.backbone], "neck": [self.neck], "head": [self.head]}

    @property
    def has_constant_norms(self) -> bool:
        return self.config.batch_norm == "frozen"

    def predictions(
        self,
        taps: dict[str, Tensor],
        training: bool | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> dict[str, Tensor]:
        return self.head(self.levels_of(taps, training), training=training)
