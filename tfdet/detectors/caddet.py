"""CADDet, a detector that builds its own network for every image: arXiv 2012.04265."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfdet import profiling, registry
from tfdet.backbones.grid import SupernetConfig
from tfdet.backbones.supernet import Supernet
from tfdet.detectors.base import Detector
from tfdet.detectors.fcos import FCOS, FCOSConfig
from tfdet.detectors.grid_cost import GridCost
from tfdet.detectors.pyramid import MAX_LEVEL, MIN_LEVEL
from tfdet.detectors.retinanet import RetinaNet, RetinaNetConfig
from tfdet.errors import UserError
from tfdet.heads.packed import PackingConfig
from tfdet.losses.points import PointLossConfig
from tfdet.necks.fpn import Kind as NeckKind


@dataclasses.dataclass(frozen=True)
class CADDetConfig:
    """What a CADDet has beside the keys of its head's detector.

    Attributes:
        backbone: "supernet"; the key is there because other detectors have it.
        frozen_stages: 0; likewise.
        neck: "projection" to one width, the paper's, or a feature pyramid.
        supernet: see `backbones.grid.SupernetConfig`.
        reference_size: (height, width) of the image that costs are given for; None for image_size.
    """

    backbone: str = "supernet"
    frozen_stages: int = 0
    neck: NeckKind = "projection"
    supernet: SupernetConfig = dataclasses.field(default_factory=SupernetConfig)
    reference_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, only in (("backbone", "supernet"), ("frozen_stages", 0)):
            if getattr(self, name) != only:
                raise UserError(
                    f"{name} of a CADDet is {only!r}, got {getattr(self, name)!r}; its backbone is "
                    "described by supernet"
                )
        if len(self.supernet.channels) > MAX_LEVEL - MIN_LEVEL + 1:
            raise UserError(f"supernet.channels has more scales than levels P3 to P{MAX_LEVEL}")

    @property
    def cost_size(self) -> tuple[int, int]:
        """(height, width) that costs are given for."""
        return self.reference_size or self.image_size


@dataclasses.dataclass(frozen=True)
class CADDetFCOSConfig(CADDetConfig, FCOSConfig):
    """Keys of a CADDet with the head of FCOS, plain or packed."""


@dataclasses.dataclass(frozen=True)
class CADDetRetinaNetConfig(CADDetConfig, RetinaNetConfig):
    """Keys of a CADDet with the head of RetinaNet, plain or packed."""


class CADDet(Detector):
    """A grid of nodes whose routers open and close paths; stands before a detector with a pyramid.

    `call` gives what that detector gives, and "gates", float32 [B, gates], the route of each image
    (see `backbones.supernet.Supernet`). Detections have, beside those of `Detector`,

    - `macs`: float32 [B], the multiply-adds of each image in backbone and neck at the reference
      size, without head and routers, as the paper counts them.

    Paper: https://arxiv.org/abs/2012.04265.

    Args:
        config: what to build.
    """

    def __init__(self, config: Any, **kwargs: Any):
        supernet = Supernet(
            config.supernet, config.batch_norm, config.gradient_checkpointing, name="backbone"
        )
        super().__init__(config, backbone=supernet, **kwargs)
        self.cost = GridCost.of(config.supernet, config.cost_size)

    @property
    def paths(self) -> dict[str, Callable[[Any], Any]]:
        def path(route: np.ndarray) -> Callable[[Any], Any]:
            return lambda images: self.neck(self.backbone.along(self.normalization(images), route))

        kinds = ("floor", "cheapest", "all_open")
        return {kind: path(self.config.supernet.route(kind)) for kind in kinds}

    @functools.cached_property
    def floor(self) -> int:
        """Multiply-adds of what every image needs at the reference size: stem and neck."""
        return profiling.path_macs(self, self.paths["floor"], self.config.cost_size)

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        maps = self.backbone(self.normalization(images), training=training)
        gates = maps.pop("gates")
        return {**self.head(self.neck(maps), training=training), "gates": gates}

    def macs_of(self, gates: Any) -> Any:
        """[B] float32: the multiply-adds of routes [B, gates] at the reference size."""
        return self.floor + self.cost.total * self.cost.hard(gates)

    def decode(self, raw: dict[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
        return {**super().decode(raw, image_size), "macs": self.macs_of(raw["gates"])}


@keras.saving.register_keras_serializable(package="tfdet")
class CADDetFCOS(CADDet, FCOS):
    """A CADDet with the head of FCOS.

    Example:
        model = tfdet.create("caddet-fcos", num_classes=3)
        detections = model.predict(images)
    """

    config_class = CADDetFCOSConfig


@keras.saving.register_keras_serializable(package="tfdet")
class CADDetRetinaNet(CADDet, RetinaNet):
    """A CADDet with the head of RetinaNet.

    Example:
        model = tfdet.create("caddet-retinanet", num_classes=3)
        detections = model.predict(images)
    """

    config_class = CADDetRetinaNetConfig


# The first FCOS's settings, which are those of mmdetection 2.1.
_MM_FCOS: dict[str, Any] = {
    "batch_norm": "synchronized",
    "normalize_distances": False,
    "centerness_tower": "class",
    "loss": PointLossConfig(center_radius=0.0, box_loss="iou"),
}
# The published costs are those of images of 800x1200.
_PUBLISHED: dict[str, Any] = {"reference_size": (800, 1200)}
_FCOS = CADDetFCOSConfig(**_MM_FCOS, **_PUBLISHED)
_RETINANET = CADDetRetinaNetConfig(batch_norm="synchronized", coarse_from="pyramid", **_PUBLISHED)
# Ours: small enough to train on a CPU in minutes, and for unit tests.
_NANO = CADDetFCOSConfig(
    image_size=(256, 256),
    num_classes=5,
    pixels="imagenet",
    batch_norm="plain",
    supernet=SupernetConfig(layers=6, channels=(32, 48, 64, 96), stem_filters=(16, 24, 32)),
    fpn_width=48,
    head_filters=48,
    head_repeats=2,
    head_groups=12,
    packed=PackingConfig(filters=48, blocks=6, tower_repeats=1, groups=12),
    weight_decay=4e-5,
)
_TEST = dataclasses.replace(
    _NANO,
    image_size=(64, 64),
    supernet=SupernetConfig(layers=4, channels=(8, 10, 12, 14), stem_filters=(4, 6, 8)),
    fpn_width=12,
    head_filters=16,
    head_repeats=1,
    head_groups=4,
    packed=PackingConfig(filters=8, blocks=2, tower_repeats=1, groups=2),
)
_TEST_RETINANET = CADDetRetinaNetConfig(
    **{
        name: getattr(_TEST, name)
        for name in (
            *("image_size", "num_classes", "pixels", "batch_norm", "supernet", "fpn_width"),
            *("head_filters", "head_repeats", "packed", "weight_decay"),
        )
    },
    coarse_from="pyramid",
)

for _name, _class, _entry in (
    ("caddet-fcos", CADDetFCOS, _FCOS),
    ("caddet-retinanet", CADDetRetinaNet, _RETINANET),
    ("caddet-fpnlite-fcos", CADDetFCOS, dataclasses.replace(_FCOS, neck="fpnlite")),
    ("caddet-nano", CADDetFCOS, _NANO),
    ("caddet-test", CADDetFCOS, _TEST),
    ("caddet-retinanet-test", CADDetRetinaNet, _TEST_RETINANET),
):
    registry.register(_name, _class, _entry)

# The detectors that the paper compares with.
for _kind, _backbone in (("mobilenet", "mnv1"), ("mobilenetv2", "mnv2-1280")):
    _keys: dict[str, Any] = {"backbone": _backbone, "frozen_stages": 0, "neck": "fpnlite"}
    registry.register(f"{_kind}-fpnlite-fcos", FCOS, FCOSConfig(**{**_MM_FCOS, **_keys}))
    registry.register(
        f"{_kind}-fpnlite-retinanet",
        RetinaNet,
        RetinaNetConfig(batch_norm="synchronized", coarse_from="pyramid", **_keys),
    )
