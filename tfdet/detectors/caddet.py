"""CADDet, a detector that builds its own network for every image: arXiv 2012.04265."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from tfdet import profiling, records, registry
from tfdet.backbones.grid import CLOSED, SupernetConfig
from tfdet.backbones.supernet import Supernet
from tfdet.detectors.backbone_detector import BackboneDetector
from tfdet.detectors.base import check_adds_terms, serialize_part
from tfdet.detectors.caddet_config import CADDetConfig, CADDetFCOSConfig, CADDetRetinaNetConfig
from tfdet.detectors.detector_config import SHARED
from tfdet.detectors.dynamic import Dynamic
from tfdet.detectors.fcos import FCOS, FCOSConfig
from tfdet.detectors.grid_cost import GridCost
from tfdet.detectors.positives import Positives
from tfdet.detectors.retinanet import RetinaNet, RetinaNetConfig
from tfdet.detectors.route_statistics import RouteStatistics
from tfdet.detectors.setting import Setting
from tfdet.errors import UserError
from tfdet.heads.packed import PackingConfig
from tfdet.losses.path_similarity import path_similarity_loss
from tfdet.losses.points import PointLossConfig
from tfdet.losses.routing_budget import (
    LossBuffer,
    global_loss,
    ranked_budget,
    scale_budget,
    scale_code,
)
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class CADDet(Dynamic):
    """A grid of nodes whose routers open and close paths, before any dense detector.

    The dense detector has the grid as its backbone, and its own neck, head, losses and decoding.
    Its layers are those of the CADDet, under their own names.

    `call` returns what the dense detector returns, and "gates", float32 [B, gates], the route of
    each image (see `backbones.supernet.Supernet`). Detections report

    - `gates`: float32 [B, gates], as above, without those that are closed;
    - `macs`: float32 [B], the multiply-adds of each image in backbone and neck at the reference
      size, without head and routers, as the paper counts them.

    Only what is open is computed. A gate below the `threshold` is closed: the published one is
    1e-4, and more trades precision for cost. Effort 0 opens nothing, effort 1 what 1e-4 opens.

    Where there are routers, training adds `global_loss`, for costs that differ from their budget,
    and `path_loss`, for routes that are less alike than the sizes of objects are; in `fit` neither
    counts in the first epochs. `RouteStatistics` are among the metrics.

    Paper: https://arxiv.org/abs/2012.04265.

    Example:
        dense = FCOS(registry.config("fcos-nano"), backbone=Supernet(SupernetConfig()))
        model = CADDet(dense)
        model.build_variables()

    Args:
        dense: a `BackboneDetector` with a `Supernet` as its backbone.
        config: what else there is to say: a `CADDetConfig`, or another record with its keys; where
            not given, size and classes are those of `dense`.
    """

    config_class: ClassVar[type] = CADDetConfig
    score = "gates"
    threshold_ends = (1.0, CLOSED)

    def __init__(self, dense: BackboneDetector, config: Any = None, **kwargs: Any):
        backbone = getattr(dense, "backbone", None)
        if not isinstance(backbone, Supernet):
            raise UserError(
                f"the backbone of a CADDet's dense detector is a Supernet, got "
                f"{type(backbone).__name__}; "
                "give it one, as in FCOS(config, backbone=Supernet(...))"
            )
        check_adds_terms(dense, "CADDet")
        grid = backbone.config
        if config is None:
            shared = {key: getattr(dense.config, key) for key in SHARED}
            config = CADDetConfig(**shared, supernet=grid)
        names = tuple(name for name in dense.loss_names if name != "l2_loss")
        if grid.routers:
            names = (*names, "global_loss", "path_loss")
        super().__init__(config, names, CLOSED, **kwargs)
        self.decayed = dense.decayed
        # Behind a function, where Keras does not look: the layers are saved and trained as those of
        # the whole, which has no other.
        self._dense = lambda: dense
        for layer in dense.layers:
            setattr(self, layer.name, layer)
        self.cost = GridCost.of(grid, config.cost_size)
        loss = config.routing_loss
        self.statistics = RouteStatistics(grid.num_gates) if grid.routers else None
        is_ranked = grid.routers and loss.strategy == "loss_aware"
        self.buffer = LossBuffer(loss.buffer) if is_ranked else None
        self._are_routed = Setting(float(loss.free_epochs == 0), "routing_losses_count")

    @classmethod
    def from_record(cls, config: CADDetConfig, name: str) -> "CADDet":
        kind, part = config.part()
        return cls(_before_grid(registry.detector_class(kind), part, config), config, name=name)

    def dense(self) -> BackboneDetector:
        """The detector behind the grid. No property, of which Keras would save the layers again."""
        return self._dense()

    @property
    def is_dynamic(self) -> bool:
        """Whether there are routers, without which all images are treated alike."""
        return self.config.supernet.routers

    @property
    def route_map(self) -> SupernetConfig | None:
        return self.config.supernet if self.is_dynamic else None

    @property
    def pad_value(self) -> tuple[float, float, float]:
        return self.dense().pad_value

    @property
    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        return self.dense().parts

    @property
    def has_constant_norms(self) -> bool:
        return self.dense().has_constant_norms

    @property
    def run_variables(self) -> list[keras.Variable]:
        own = self.buffer.variables if self.buffer else []
        return [*self.dense().run_variables, *own]

    @property
    def paths(self) -> dict[str, Callable[[Any], Any]]:
        dense = self.dense()

        def path(route: np.ndarray) -> Callable[[Any], Any]:
            return lambda images: dense.levels_of(
                self.backbone.along(self._normalized(images), route)
            )

        kinds = ("floor", "cheapest", "all_open")
        return {kind: path(self.config.supernet.route(kind)) for kind in kinds}

    def full_path(self, images: Tensor) -> Any:
        return self.compute_output_spec(images)

    def _normalized(self, images: Tensor) -> Any:
        return self.dense().normalization(images)

    @functools.cached_property
    def floor(self) -> int:
        """Multiply-adds of what every image needs at the reference size: stem and neck."""
        return profiling.path_macs(self, self.paths["floor"], self.config.cost_size)

    @property
    def cost_ends(self) -> tuple[int, int]:
        return self.floor, self.floor + self.cost.total

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.call(keras.KerasTensor(input_shape))

    def call(self, images: Tensor, training: bool | None = None) -> dict[str, Tensor]:
        maps = self.dense().taps(images, training=training)
        return self._predictions(maps, images, training)

    def _predictions(
        self, maps: dict[str, Tensor], images: Tensor, training: bool | None = None
    ) -> dict[str, Any]:
        levels, size = dict(maps), tuple(images.shape[1:3])
        gates = levels.pop("gates")
        return {**self.dense().predictions(levels, training, size), "gates": gates}

    @property
    def whole(self) -> int:
        """The multiply-adds that budgets are parts of."""
        network = self.config.routing_loss.whole == "network"
        return self.cost.total + (self.floor if network else 0)

    def soft_cost(self, gates: Tensor) -> Tensor:
        """[B] float32: costs of routes [B, gates] as parts of what budgets are parts of."""
        return self.cost.total / self.whole * self.cost.soft(gates)

    def losses_per_image(self, targets: dict[str, Tensor], raw: dict[str, Tensor]) -> Tensor:
        """The detection loss of each image as if it were alone in its batch, float32 [B]."""
        return self.dense().losses_per_image(targets, raw)

    def positives(self, boxes: Tensor, labels: Tensor) -> Positives | None:
        return self.dense().positives(boxes, labels)

    def loss_terms(
        self, targets: dict[str, Tensor], raw: dict[str, Tensor], training: bool = False
    ) -> dict[str, Tensor]:
        """As `Detector.loss_terms`; in training the losses of the images go into the buffer."""
        dense = self.dense().loss_terms(targets, raw, training)
        if not self.config.supernet.routers:
            return dense
        gates = ops.cast(raw["gates"], "float32")
        soft = self.soft_cost(gates)
        terms, budget, losses = self._routing_terms(targets, raw, gates, soft)
        if training and self.buffer is not None:
            self.buffer.push(losses)
        if self.statistics is not None:
            hard = 1e-9 * self.macs_of(gates)
            self.statistics.update_state(hard, soft, budget, gates >= CLOSED)
        return {**dense, **terms}

    def _routing_terms(
        self, targets: dict[str, Tensor], raw: dict[str, Tensor], gates: Tensor, soft: Tensor
    ) -> tuple[dict[str, Any], Any, Any]:
        """The loss terms of routes; the budgets [B]; and the losses [B] that these follow from, if
        they do.

        Args:
            targets, raw: of the batch.
            gates: [B, gates] float32, the routes.
            soft: [B], their costs.
        """
        config = self.config.routing_loss
        codes, losses = scale_code(targets, config, self.image_size), None
        if self.buffer is not None:  # the strategy is "loss_aware"
            losses = ops.stop_gradient(self.losses_per_image(targets, raw))
            budget = ranked_budget(self.buffer.rank(losses), config)
        elif config.strategy == "scale_aware":
            budget = scale_budget(codes, config)
        else:
            budget = config.budget * ops.ones_like(gates[:, 0])
        weight = ops.convert_to_tensor(self._are_routed.variable)
        unit = self.whole / config.unit if config.unit else 1.0
        distance = global_loss(soft, budget, unit)
        similarity = path_similarity_loss(
            gates, codes, config.similarity_min, config.similarity_max, config.pairs == "replica"
        )
        terms = {
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

    def detect_routed(self, canvas: Tensor, threshold: Tensor) -> dict[str, Any]:
        raw = self._predictions(self.open_maps(canvas, threshold), canvas, training=False)
        return self.decode(raw, self.image_size)

    def open_maps(self, canvas: Tensor, threshold: Tensor) -> dict[str, Tensor]:
        """The backbone's maps of images [B, H, W, 3], and "gates"; only what is open is run."""
        images, threshold = self._normalized(canvas), ops.maximum(threshold, CLOSED)
        if not self.is_dynamic or keras.backend.backend() != "tensorflow":
            return self.backbone(images, training=False, threshold=threshold)
        from tfdet.backbones import grid_inference

        return grid_inference.skip_closed(self.backbone, images, threshold)

    def shares(self, canvas: Tensor, threshold: Tensor) -> tuple[Any, Any]:
        gates = self.open_maps(canvas, threshold)["gates"]
        return gates, self.cost.hard(gates)

    def macs_of(self, gates: Tensor) -> Tensor:
        """[B] float32: the multiply-adds of routes [B, gates] at the reference size."""
        return self.floor + self.cost.total * self.cost.hard(gates)

    def decode(self, raw: dict[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        gates = ops.cast(raw["gates"], "float32")
        found = self.dense().decode(raw, image_size)
        return {**found, "gates": gates, "macs": self.macs_of(gates)}

    def get_config(self) -> dict[str, Any]:
        if self.config.dense:  # the record says it all
            return super().get_config()
        return {**super().get_config(), "dense": serialize_part(self.dense())}

    @classmethod
    def _from_parts(cls, config: dict[str, Any]) -> "CADDet":
        record: Any = records.from_dict(cls.config_class, config["config"])
        if "dense" not in config:
            return cls.from_record(record, config["name"])
        dense = keras.saving.deserialize_keras_object(config["dense"])
        return cls(dense, record, name=config["name"])


def _before_grid(kind: Callable[..., BackboneDetector], part: Any, config: Any) -> BackboneDetector:
    """A dense detector of a class and its configuration, with a grid as its backbone."""
    grid = Supernet(
        config.supernet,
        getattr(part, "batch_norm", "plain"),
        getattr(part, "gradient_checkpointing", False),
        name="backbone",
    )
    return kind(part, backbone=grid, name="dense")


class _RoutingLosses(keras.callbacks.Callback):
    """Has the losses of routes count from an epoch on: the first-epoch rule."""

    def __init__(self, variable: keras.Variable, free_epochs: int):
        super().__init__()
        self._variable = variable
        self._free_epochs = free_epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._variable.assign(float(epoch >= self._free_epochs))


class _OneRecord(CADDet):
    """A CADDet with a published head, whose keys and those of its dense detector are one record."""

    dense_class: ClassVar[type[BackboneDetector]]

    @classmethod
    def from_record(cls, config: Any, name: str) -> "CADDet":
        return cls(_before_grid(cls.dense_class, config, config), config, name=name)

    def get_config(self) -> dict[str, Any]:
        return super(CADDet, self).get_config()


@keras.saving.register_keras_serializable(package="tfdet")
class CADDetFCOS(_OneRecord):
    """A CADDet with the head of FCOS.

    Example:
        model = tfdet.create("caddet-fcos", num_classes=3)
        detections = model.predict(images)
    """

    config_class = CADDetFCOSConfig
    dense_class = FCOS


@keras.saving.register_keras_serializable(package="tfdet")
class CADDetRetinaNet(_OneRecord):
    """A CADDet with the head of RetinaNet.

    Example:
        model = tfdet.create("caddet-retinanet", num_classes=3)
        detections = model.predict(images)
    """

    config_class = CADDetRetinaNetConfig
    dense_class = RetinaNet


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

_ANY = CADDetConfig(
    image_size=(800, 1344),
    weight_decay=1e-4,
    dense={"name": "packdet-r50", "batch_norm": "synchronized"},
    **_PUBLISHED,
)
_TEST_ANY = CADDetConfig(
    image_size=(64, 64),
    num_classes=5,
    weight_decay=4e-5,
    dense={"name": "packdet-test"},
    supernet=_TEST.supernet,
)

for _name, _class, _entry in (
    ("caddet", CADDet, _ANY),
    ("caddet-fcos", CADDetFCOS, _FCOS),
    ("caddet-retinanet", CADDetRetinaNet, _RETINANET),
    ("caddet-fpnlite-fcos", CADDetFCOS, dataclasses.replace(_FCOS, neck="fpnlite")),
    ("caddet-nano", CADDetFCOS, _NANO),
    ("caddet-test", CADDetFCOS, _TEST),
    ("caddet-retinanet-test", CADDetRetinaNet, _TEST_RETINANET),
    ("caddet-packdet-test", CADDet, _TEST_ANY),
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
