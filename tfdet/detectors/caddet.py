"""CADDet, a detector that builds its own network for every image: arXiv 2012.04265."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfdet import profiling, records, registry
from tfdet.backbones.grid import CLOSED, SupernetConfig
from tfdet.backbones.supernet import Supernet
from tfdet.detectors.base import Detector, each_alone
from tfdet.detectors.calibration import Calibration
from tfdet.detectors.fcos import FCOS, FCOSConfig
from tfdet.detectors.grid_cost import GridCost
from tfdet.detectors.knob import Dynamic
from tfdet.detectors.pyramid import MAX_LEVEL, MIN_LEVEL
from tfdet.detectors.retinanet import RetinaNet, RetinaNetConfig
from tfdet.detectors.route_statistics import RouteStatistics
from tfdet.detectors.setting import Setting
from tfdet.errors import UserError
from tfdet.heads.packed import PackingConfig
from tfdet.losses.path_similarity import path_similarity_loss
from tfdet.losses.points import PointLossConfig
from tfdet.losses.routing_budget import (
    LossBuffer,
    RoutingLossConfig,
    global_loss,
    ranked_budget,
    scale_budget,
    scale_code,
)
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
        routing_loss: see `losses.routing_budget.RoutingLossConfig`.
    """

    backbone: str = "supernet"
    frozen_stages: int = 0
    neck: NeckKind = "projection"
    supernet: SupernetConfig = dataclasses.field(default_factory=SupernetConfig)
    reference_size: tuple[int, int] | None = None
    routing_loss: RoutingLossConfig = dataclasses.field(default_factory=RoutingLossConfig)

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


class CADDet(Dynamic, Detector):
    """A grid of nodes whose routers open and close paths; stands before a detector with a pyramid.

    `call` gives what that detector gives, and "gates", float32 [B, gates], the route of each image
    (see `backbones.supernet.Supernet`). Detections have, beside those of `Detector`,

    - `gates`: float32 [B, gates], as above, without those that are closed;
    - `macs`: float32 [B], the multiply-adds of each image in backbone and neck at the reference
      size, without head and routers, as the paper counts them.

    `detect` and `detect_fitted` compute only what is open. The `knob` is the threshold below which
    a gate is closed: the published 1e-4, and more trades precision for cost; `threshold_for` finds
    the one for a cost that is wanted.

    Where there are routers, training adds `global_loss`, for costs that differ from their budget,
    and `path_loss`, for routes that are less alike than the sizes of objects are; in `fit` neither
    counts in the first epochs. `RouteStatistics` are among the metrics.

    Paper: https://arxiv.org/abs/2012.04265.

    Args:
        config: what to build.
    """

    def __init__(self, config: Any, **kwargs: Any):
        supernet = Supernet(
            config.supernet, config.batch_norm, config.gradient_checkpointing, name="backbone"
        )
        has_routers = config.supernet.routers
        names = ("global_loss", "path_loss") if has_routers else ()
        super().__init__(config, backbone=supernet, extra_losses=names, **kwargs)
        self.cost = GridCost.of(config.supernet, config.cost_size)
        loss = config.routing_loss
        self.statistics = RouteStatistics(config.supernet.num_gates) if has_routers else None
        is_ranked = has_routers and loss.strategy == "loss_aware"
        self.buffer = LossBuffer(loss.buffer) if is_ranked else None
        self._are_routed = Setting(float(loss.free_epochs == 0), "routing_losses_count")
        self._knob = Setting(CLOSED, "knob")

    @property
    def has_knob(self) -> bool:
        """Whether there are routers, without which all images are treated alike."""
        return self.config.supernet.routers

    @property
    def knob(self) -> float:
        """The threshold below which a gate is closed, 0 to 1; below 1e-4 it is 1e-4."""
        return float(self._knob)

    @knob.setter
    def knob(self, threshold: float) -> None:
        if not 0 <= threshold <= 1:
            raise UserError(f"the knob goes from 0 to 1 (nothing is open), got {threshold}")
        self._knob.variable.assign(threshold)

    @property
    def run_variables(self) -> list[keras.Variable]:
        return self.buffer.variables if self.buffer else []

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

    @property
    def cost_ends(self) -> tuple[int, int]:
        return self.floor, self.floor + self.cost.total

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        maps = self.backbone(self.normalization(images), training=training)
        gates = maps.pop("gates")
        return {**self.head(self.neck(maps), training=training), "gates": gates}

    @property
    def whole(self) -> int:
        """The multiply-adds that budgets are parts of."""
        network = self.config.routing_loss.whole == "network"
        return self.cost.total + (self.floor if network else 0)

    def soft_cost(self, gates: Any) -> Any:
        """[B] float32: costs of routes [B, gates] as parts of what budgets are parts of."""
        return self.cost.total / self.whole * self.cost.soft(gates)

    def losses_per_image(self, targets: dict[str, Any], raw: dict[str, Any]) -> Any:
        """The detection loss of each image as if it were alone in its batch, float32 [B]."""
        return each_alone(super().loss_terms, targets, raw)

    def loss_terms(
        self, targets: dict[str, Any], raw: dict[str, Any], training: bool = False
    ) -> dict[str, Any]:
        """As `Detector.loss_terms`; in training the losses of the images go into the buffer."""
        terms, budget, losses = self._terms_and_budget(targets, raw)
        if self.statistics is not None:
            if training and losses is not None:
                self.buffer.push(losses)
            gates = raw["gates"]
            hard, soft = 1e-9 * self.macs_of(gates), self.soft_cost(gates)
            self.statistics.update_state(hard, soft, budget, gates >= CLOSED)
        return terms

    def _terms_and_budget(
        self, targets: dict[str, Any], raw: dict[str, Any]
    ) -> tuple[dict[str, Any], Any, Any]:
        """Loss terms; the budgets [B]; and the losses [B] that these follow from, if they do."""
        terms = super().loss_terms(targets, raw)
        if not self.config.supernet.routers:
            return terms, None, None
        config, gates = self.config.routing_loss, ops.cast(raw["gates"], "float32")
        codes, losses = scale_code(targets, config), None
        if config.strategy == "loss_aware":
            losses = ops.stop_gradient(self.losses_per_image(targets, raw))
            budget = ranked_budget(self.buffer.rank(losses), config)
        elif config.strategy == "scale_aware":
            budget = scale_budget(codes, config)
        else:
            budget = config.budget * ops.ones_like(gates[:, 0])
        weight = ops.convert_to_tensor(self._are_routed.variable)
        distance = global_loss(
            self.soft_cost(gates), budget, self.whole / config.unit if config.unit else 1.0
        )
        similarity = path_similarity_loss(
            gates, codes, config.similarity_min, config.similarity_max, config.pairs == "replica"
        )
        terms |= {
            "global_loss": weight * config.global_weight * distance,
            "path_loss": weight * config.local_weight * similarity,
        }
        return terms, budget, losses

    def fit(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        """As Keras's; the losses of routes do not count in the first epochs."""
        count = _RoutingLosses(self._are_routed.variable, self.config.routing_loss.free_epochs)
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(count)
        else:
            callbacks = [count, *keras.tree.flatten(callbacks or [])]
        return super().fit(*args, callbacks=callbacks, **kwargs)

    def detect_fitted(self, canvas: Any, threshold: Any = None) -> dict[str, Any]:
        """As `Detector.detect_fitted`; `threshold` in the place of the knob's."""
        if threshold is None:
            threshold = ops.convert_to_tensor(self._knob.variable)
        maps = self.open_maps(canvas, threshold)
        gates = maps.pop("gates")
        raw = self.head(self.neck(maps), training=False)
        return self.decode({**raw, "gates": gates}, self.image_size)

    def open_maps(self, canvas: Any, threshold: Any) -> dict[str, Any]:
        """The backbone's maps of images [B, H, W, 3], and "gates"; only what is open is run."""
        images, threshold = self.normalization(canvas), ops.maximum(threshold, CLOSED)
        if not self.has_knob or keras.backend.backend() != "tensorflow":
            return self.backbone(images, training=False, threshold=threshold)
        from tfdet.backbones import grid_inference

        return grid_inference.skip_closed(self.backbone, images, threshold)

    def macs_of(self, gates: Any) -> Any:
        """[B] float32: the multiply-adds of routes [B, gates] at the reference size."""
        return self.floor + self.cost.total * self.cost.hard(gates)

    def decode(self, raw: dict[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
        gates = ops.cast(raw["gates"], "float32")
        found = super().decode(raw, image_size)
        return {**found, "gates": gates, "macs": self.macs_of(gates)}

    def get_config(self) -> dict[str, Any]:
        table = records.to_dict(self.calibration) if self.calibration else None
        return {**super().get_config(), "knob": self.knob, "calibration": table}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CADDet":
        model = super().from_config(config)
        model.knob, table = config["knob"], config["calibration"]
        model.calibration = records.from_dict(Calibration, table) if table else None
        return model


class _RoutingLosses(keras.callbacks.Callback):
    """Has the losses of routes count from an epoch on: the first-epoch rule."""

    def __init__(self, variable: keras.Variable, free_epochs: int):
        super().__init__()
        self._variable = variable
        self._free_epochs = free_epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._variable.assign(float(epoch >= self._free_epochs))


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
