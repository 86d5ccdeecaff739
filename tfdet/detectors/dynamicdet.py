"""DynamicDet: two detectors in a cascade and a router between them."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from tfdet import records, registry
from tfdet.detectors import routing
from tfdet.detectors.base import Detector, check_adds_terms
from tfdet.detectors.calibration import Calibration
from tfdet.detectors.cascade_config import CascadeConfig, DynamicConfig
from tfdet.detectors.detector_config import SHARED
from tfdet.detectors.dynamic import Dynamic
from tfdet.detectors.positives import Positives
from tfdet.detectors.second_backbone import SecondBackbone
from tfdet.errors import UserError
from tfdet.layers.router import Router
from tfdet.losses import shared
from tfdet.losses.router import OffsetRecord, router_loss
from tfdet.tensors import Tensor

_ROLES = ("first", "second")
# Means that the router step shows beside its loss.
_ROUTER_METRICS = ("easiness", "offset", "first_loss", "second_loss")


@keras.saving.register_keras_serializable(package="tfdet")
class DynamicDetector(Dynamic):
    """Easy images leave after the first detector; hard ones go on to the second.

    The backbone of the first detector sees every image, and from its features the router scores how
    easy the image is. An easy image gets the neck and the head of the first detector; a hard one
    gets the second detector, whose backbone also takes the features of the first. What an image
    does not need is not computed, also in a batch of easy and hard images.

    Paper: https://arxiv.org/abs/2304.05552.

    `call` returns all of it, `{"first": raw, "second": raw, "easiness": [B]}`; `detect` and
    `detect_fitted` route. Detections have, beside those of `Detector`,

    - `easiness`: float32 [B], the router's score in [0, 1);
    - `is_hard`: bool [B], whether the second detector was taken;
    - `macs`: float32 [B], the multiply-adds that the image cost.

    Example:
        model = DynamicDetector(tfdet.create("efficientdet-d0"), tfdet.create("efficientdet-d0"))
        model.build_variables()
        model.threshold = 0.3  # images that are less easy than this are hard
        detections = model.predict(images)

    Args:
        first, second: detectors with taps (`Detector.taps`), for the same images and classes. The
            second may be a `SecondBackbone`, which uses the neck and the heads of the first.
        router: maps taps to the easiness [B] in [0, 1); a `Router` where not given.
        fusion: maps the taps of the first to the maps that the second adds; what `make_fusion` of
            the second returns, where not given.
        config: what else there is to say; where not given, size and classes are those of `first`.
    """

    config_class = CascadeConfig
    score = "easiness"
    takes_threshold_per_image = True

    def __init__(
        self,
        first: Detector,
        second: Detector | SecondBackbone,
        router: keras.layers.Layer | None = None,
        fusion: keras.layers.Layer | None = None,
        config: DynamicConfig | None = None,
        **kwargs: Any,
    ):
        config = config or DynamicConfig(**{key: getattr(first.config, key) for key in SHARED})
        heads = {"first": first, "second": second if isinstance(second, Detector) else first}
        for role, detector in heads.items():
            _check_part(role, detector, config)
        if heads["second"].found_mask_size != first.found_mask_size:
            raise UserError("both detectors must find masks of one size, or neither any")
        if not first.tap_channels.keys() & second.joint_channels.keys():
            raise UserError("the two detectors have no level in common where they can be joined")
        names = _loss_names(heads, config)
        super().__init__(config, names, config.first_threshold, **kwargs)
        self.first = first
        self.second = second
        self.router = router or Router(name="router")
        self.fusion = fusion or second.make_fusion(name="fusion")
        decayed = (name for detector in heads.values() for name in detector.decayed)
        self.decayed = tuple(dict.fromkeys(decayed))
        self.record = OffsetRecord(config.router_loss) if config.step == "router" else None
        self.router_trackers = [
            keras.metrics.Mean(name=name)
            for name in (_ROUTER_METRICS if config.step == "router" else ())
        ]

    @classmethod
    def from_record(cls, config: CascadeConfig, name: str) -> "DynamicDetector":
        def detector(role: Literal["first", "second"]) -> Detector:
            name, part = config.part(role)
            kind: type[Detector] = registry.detector_class(name)
            return kind.from_record(part, name=role)

        first = detector("first")
        if config.shared_heads:
            levels = tuple(int(level[1:]) for level in first.tap_channels)
            second = SecondBackbone(config.second_backbone, levels, name="second")
        else:
            second = detector("second")
        router = Router(config.router_reduction, config.router_levels, name="router")
        return cls(first, second, router, config=config.dynamic, name=name)

    def heads_of(self, role: str) -> Detector:
        """The detector whose neck, heads and losses the "first" or the "second" one uses."""
        part = getattr(self, role)
        return part if isinstance(part, Detector) else self.first

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        # By themselves first: a backbone is built from images alone, not from images and maps.
        if not self.first.built:
            self.first.build(input_shape)
        if not self.second.built:
            shape: Any = input_shape
            if self.heads_of("second") is self.first:
                taps = self.first.taps(keras.KerasTensor(input_shape))
                shape = {"images": input_shape, **{name: x.shape for name, x in taps.items()}}
            self.second.build(shape)
        self.call(keras.KerasTensor(input_shape))

    @property
    def pad_value(self) -> tuple[float, float, float]:
        return self.first.pad_value

    @property
    def mask_size(self) -> int:
        return max(self.heads_of(name).mask_size for name in _ROLES)

    @property
    def found_mask_size(self) -> int:
        return max(self.heads_of(name).found_mask_size for name in _ROLES)

    @property
    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        is_shared = self.heads_of("second") is self.first
        second = {"backbone": [self.second.backbone]} if is_shared else self.second.parts
        return {
            "router": [self.router],
            **{f"first_{name}": layers for name, layers in self.first.parts.items()},
            "fusion": [self.fusion],
            **{f"second_{name}": layers for name, layers in second.items()},
        }

    @property
    def paths(self) -> dict[str, Callable[[Any], Any]]:
        def path(role: str) -> Callable[[Any], Any]:
            def run(images: Tensor) -> Any:
                taps = self.first.taps(images)
                easiness = self.easiness(taps)
                taps = taps if role == "first" else self.second_taps(images, taps)
                size = tuple(images.shape[1:3])
                return easiness, self.heads_of(role).predictions(taps, image_size=size)

            return run

        return {"early": path("first"), "late": path("second")}

    def full_path(self, images: Tensor) -> Any:
        return self.paths["late"](images)

    @property
    def route_macs(self) -> dict[str, int]:
        """Multiply-adds of an image that leaves early, and of one that goes all the way.

        Those of the form for inference, which is what an image costs in the end.
        """
        return self.inference_profile.routes

    @property
    def router_macs(self) -> int:
        """What deciding costs, which both paths contain."""
        return self.inference_profile.parts["router"].macs

    def easiness(self, taps: dict[str, Tensor]) -> Tensor:
        """The router's scores [B], given the features of the first backbone."""
        return self.router(self._levels(taps))

    def second_taps(
        self, images: Tensor, taps: dict[str, Tensor], training: bool | None = None
    ) -> Tensor:
        """Features of the second backbone, given the images and the features of the first."""
        added = self.fusion(self._levels(taps))
        return self.second.taps_after(images, taps, added, training)

    def _levels(self, taps: dict[str, Tensor]) -> dict[str, Any]:
        return {name: taps[name] for name in self.first.tap_channels}

    def call(self, images: Tensor, training: bool | None = None) -> dict[str, Tensor]:
        # The router is trained on detectors as they are in inference.
        training = training and self.config.step == "joint"
        taps = self.first.taps(images, training=training)
        second = self.second_taps(images, taps, training)
        size = tuple(images.shape[1:3])
        return {
            "first": self.heads_of("first").predictions(taps, training, size),
            "second": self.heads_of("second").predictions(second, training, size),
            "easiness": self.easiness(taps),
        }

    def detect_routed(self, canvas: Tensor, threshold: Tensor) -> dict[str, Any]:
        found = routing.route(self.stages, canvas, threshold, self.nothing)
        return self.with_costs(found)

    def measure(self, canvases: Iterable[Any]) -> Calibration:
        from tfdet.detectors import cost_measurement

        stages = self.stages
        return cost_measurement.from_scores(
            lambda canvas: stages.scout(canvas)[1], canvases, self.cost_ends
        )

    def freeze(
        self, frozen: Callable[..., Any], canvas: Tensor, threshold: Tensor
    ) -> Callable[..., dict[str, Any]]:
        """As `Dynamic.freeze`, stage by stage.

        In the branches of a graph that is frozen as a whole, constants are arguments, and nothing
        folds.
        """
        scout, early, late = self.stages
        scout = frozen(scout, canvas)
        taps, _ = scout.outputs
        stages = routing.Stages(scout, frozen(early, taps), frozen(late, canvas, taps))

        def route(images: Tensor, at: Any) -> dict[str, Tensor]:
            return self.with_costs(routing.route(stages, images, at, self.nothing))

        return route

    def inference_form(self) -> "DynamicDetector":
        first, second = self.first.inference_form(), self.second
        if isinstance(second, Detector):
            second = second.inference_form()
        if first is self.first and second is self.second:
            return self
        return DynamicDetector(first, second, self.router, self.fusion, self.config, name=self.name)

    @property
    def stages(self) -> routing.Stages:
        """The computations of a routed inference."""

        def scout(canvas: Tensor) -> tuple[dict[str, Any], Any]:
            taps = self.first.taps(canvas, training=False)
            return taps, self.easiness(taps)

        def early(taps: dict[str, Tensor]) -> dict[str, Any]:
            raw = self.heads_of("first").predictions(taps, training=False)
            return self.decode_part("first", raw)

        def late(canvas: Tensor, taps: dict[str, Tensor]) -> dict[str, Any]:
            taps = self.second_taps(canvas, taps, training=False)
            raw = self.heads_of("second").predictions(taps, training=False)
            return self.decode_part("second", raw)

        return routing.Stages(scout, early, late)

    @property
    def nothing(self) -> dict[str, np.ndarray]:
        """An image's row without detections."""
        return routing.no_detections(self.max_detections, self.found_mask_size)

    def with_costs(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """The detections with the multiply-adds of each image."""
        early, late = (np.float32(self.route_macs[name]) for name in ("early", "late"))
        return {**found, "macs": ops.where(found["is_hard"], late, early)}

    def decode(self, raw: dict[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        """Detections of all that `call` returns, chosen by the threshold."""
        hard = routing.is_hard(raw["easiness"], ops.convert_to_tensor(self._threshold.variable))
        early, late = (self.decode_part(role, raw[role]) for role in ("first", "second"))
        found = {name: routing.select(hard, late[name], early[name]) for name in early}
        return self.with_costs({**found, "easiness": raw["easiness"], "is_hard": hard})

    def decode_part(self, role: str, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Detections of the "first" or the "second" detector from its raw predictions."""
        found = self.heads_of(role).decode(raw, self.image_size)
        return routing.with_rows(found, self.max_detections)

    @property
    def max_detections(self) -> int:
        return max(self.heads_of(name).max_detections for name in _ROLES)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As Keras's; what the step does not train is frozen from here on."""
        if self.config.step == "router":
            for part in (self.first, self.second, self.fusion):
                part.trainable = False
        else:
            self.router.trainable = False
        super().compile(*args, **kwargs)

    @property
    def run_variables(self) -> list[keras.Variable]:
        return self.record.variables if self.record else []

    def positives(self, boxes: Tensor, labels: Tensor) -> Positives | None:
        """Those of the first detector; the second one's are alike."""
        return self.first.positives(boxes, labels)

    def loss_terms(
        self, targets: dict[str, Tensor], raw: dict[str, Tensor], training: bool = False
    ) -> dict[str, Tensor]:
        """As `Detector.loss_terms`; in training the router's loss keeps a record of the gains."""
        if self.config.step == "router":
            return self._router_terms(targets, raw, training)
        terms: dict[str, Any] = {}
        with shared.answers():  # both match the same objects
            for role, weight in zip(_ROLES, (self.config.first_weight, 1.0), strict=True):
                part = self.heads_of(role).loss_terms(targets, raw[role], training)
                terms |= {f"{role}_{name}": weight * value for name, value in part.items()}
        return terms

    def losses_of_paths(
        self, targets: dict[str, Tensor], raw: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """[B] losses of the first and of the second detector, each image as if it were alone."""
        first, second = (
            ops.stop_gradient(self.heads_of(role).losses_per_image(targets, raw[role]))
            for role in _ROLES
        )
        return first, second

    def _router_terms(
        self, targets: dict[str, Tensor], raw: dict[str, Tensor], training: bool
    ) -> dict[str, Any]:
        """The router's loss; in training the gains go on record."""
        config, record = self.config.router_loss, self.record
        assert record is not None, "the router step has one"
        first, second = self.losses_of_paths(targets, raw)
        if config.offset == "running" and training:
            offset = record.advance(first - second)
        else:
            offset = ops.zeros_like(first) + (0.0 if config.offset == "none" else record.offset)
        for tracker, value in zip(
            self.router_trackers, (raw["easiness"], offset, first, second), strict=True
        ):
            tracker.update_state(value)
        loss = router_loss(raw["easiness"], first, second, offset, config.cost_weight)
        return {"router_loss": loss}

    def get_config(self) -> dict[str, Any]:
        parts = ("first", "second", "router", "fusion")
        return {
            **super().get_config(),
            **{name: _serialized(getattr(self, name)) for name in parts},
        }

    @classmethod
    def _from_parts(cls, config: dict[str, Any]) -> "DynamicDetector":
        config = dict(config)
        record = records.from_dict(DynamicConfig, config.pop("config"))
        parts = ("first", "second", "router", "fusion")
        loaded = {name: keras.saving.deserialize_keras_object(config.pop(name)) for name in parts}
        return cls(**loaded, config=record, **config)


def _loss_names(roles: dict[str, Detector], config: DynamicConfig) -> tuple[str, ...]:
    if config.step == "router":
        return ("router_loss",)
    # Without the detectors' own L2 loss, which is one of the whole.
    return tuple(
        f"{role}_{name}"
        for role, part in roles.items()
        for name in part.loss_names
        if name != "l2_loss"
    )


def _check_part(role: str, detector: Detector, config: DynamicConfig) -> None:
    check_adds_terms(detector, "DynamicDetector")
    for key in ("image_size", "num_classes", "class_names", "class_ids"):
        ours, theirs = getattr(config, key), getattr(detector.config, key)
        if ours != theirs:
            raise UserError(f"{key} of the {role} detector is {theirs}, expected {ours}")


def _serialized(part: keras.layers.Layer) -> dict[str, Any]:
    data = keras.saving.serialize_keras_object(part)
    data.pop("build_config", None)  # the whole builds its parts, under its own name
    return data


# Name: both detectors, and the changes to the second. "nano" and "test" are ours, as are the pairs
# of EfficientDets. The second YOLOv7-X reads a map of the first: a slip in the published table, and
# so in its weights.
_CASCADES: dict[str, tuple[str, dict[str, Any]]] = {
    "dy-yolov7": ("yolov7", {}),
    "dy-yolov7-x": ("yolov7-x", {"borrows_p2": True}),
    "dy-yolov7-w6": ("yolov7-w6", {}),
    "dy-yolov7-nano": ("yolov7-nano", {}),
    "dy-yolov7-test": ("yolov7-test", {}),
    "dy-efficientdet-d0": ("efficientdet-d0", {}),
    "dy-efficientdet-lite0": ("efficientdet-lite0", {}),
    "dy-efficientdet-nano": ("efficientdet-nano", {}),
    "dy-efficientdet-test": ("efficientdet-test", {}),
}
# Those with shared heads: the detector, and changes to it. The published ones have these backbones;
# "test" is ours, and has them small.
_WITH_SHARED_HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "dy-faster-rcnn-r50": ("faster-rcnn-r50", {}),
    "dy-faster-rcnn-nano": ("faster-rcnn-nano", {}),
    "dy-faster-rcnn-test": ("faster-rcnn-test", {"backbone": "resnet-test"}),
    "dy-mask-rcnn-swin-t": ("mask-rcnn-swin-t", {}),
    "dy-mask-rcnn-nano": ("mask-rcnn-nano", {}),
    "dy-mask-rcnn-test": ("mask-rcnn-test", {"backbone": "swin-test"}),
}


def _register(name: str, part: str, first: dict[str, Tensor], **keys: Tensor) -> None:
    config = registry.config(part)
    shared = {key: getattr(config, key) for key in ("image_size", "num_classes", "weight_decay")}
    record = CascadeConfig(first={"name": part, **first}, **shared, **keys)
    registry.register(name, DynamicDetector, record)


for _name, (_part, _changes) in _CASCADES.items():
    _register(_name, _part, {}, second={"name": _part, **_changes})
for _name, (_part, _changes) in _WITH_SHARED_HEADS.items():
    _register(_name, _part, _changes, shared_heads=True)
