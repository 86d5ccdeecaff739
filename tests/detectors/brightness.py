"""A dynamic detector that lives here alone: bright images get a small FCOS, dark ones a larger.

Nothing in `tfdet` knows it. It is found by its name, which begins with this module.
"""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from tfdet import registry
from tfdet.detectors import routing
from tfdet.detectors.detector_config import SHARED, DetectorConfig
from tfdet.detectors.dynamic import Dynamic
from tfdet.detectors.fcos import FCOS

NAME = "tests.detectors.brightness:dy-brightness-test"


@dataclasses.dataclass(frozen=True)
class BrightnessConfig(DetectorConfig):
    image_size: tuple[int, int] = (64, 64)
    num_classes: int = 5
    weight_decay: float = 4e-5


@keras.saving.register_keras_serializable(package="tests")
class Brightness(Dynamic):
    config_class = BrightnessConfig
    score = "brightness"

    def __init__(self, config: BrightnessConfig, **kwargs: Any):
        keys = {key: getattr(config, key) for key in SHARED}
        small = FCOS(registry.config("fcos-test", **keys), name="small")
        large = FCOS(registry.config("fcos-test", **keys, head_repeats=3), name="large")
        terms = [name for name in small.loss_names if name != "l2_loss"]
        names = tuple(f"{role}_{term}" for role in ("small", "large") for term in terms)
        super().__init__(config, names, threshold=0.5, **kwargs)
        self.small, self.large = small, large

    def build(self, input_shape: Any) -> None:
        self.small.build(input_shape)
        self.large.build(input_shape)

    def brightness(self, images: Any) -> Any:
        return ops.mean(ops.cast(images, "float32"), axis=(1, 2, 3)) / 255.0

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        raw = {x.name: x.call(images, training=training) for x in (self.small, self.large)}
        return {**raw, "brightness": self.brightness(images)}

    def loss_terms(
        self, targets: dict[str, Any], raw: dict[str, Any], training: bool = False
    ) -> dict[str, Any]:
        roles = (self.small, self.large)
        parts = {x.name: x.loss_terms(targets, raw[x.name], training) for x in roles}
        return {f"{role}_{n}": term for role in parts for n, term in parts[role].items()}

    def decode(self, raw: dict[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
        dark = routing.is_hard(raw["brightness"], self.threshold)
        small, large = (x.decode(raw[x.name], image_size) for x in (self.small, self.large))
        found = {name: routing.select(dark, large[name], small[name]) for name in small}
        return self._with_reports(found, raw["brightness"], dark)

    def detect_routed(self, canvas: Any, threshold: Any) -> dict[str, Any]:
        stages = routing.Stages(
            scout=lambda images: ({"images": images}, self.brightness(images)),
            early=lambda taps: self.small.detect_fitted(taps["images"]),
            late=lambda images, taps: self.large.detect_fitted(images),
        )
        nothing = routing.no_detections(self.small.max_detections)
        found = routing.route(stages, canvas, threshold, nothing)
        return self._with_reports(found, found.pop("easiness"), found["is_hard"])

    def _with_reports(self, found: dict[str, Any], brightness: Any, dark: Any) -> dict[str, Any]:
        least, most = np.float32(self.cost_ends)
        macs = ops.where(dark, most, least)
        return {**found, "brightness": brightness, "is_hard": dark, "macs": macs}

    @property
    def paths(self) -> dict[str, Any]:
        return {"bright": self.small.call, "dark": self.large.call}

    @property
    def pad_value(self) -> tuple[float, float, float]:
        return self.small.pad_value


registry.register(NAME, Brightness, BrightnessConfig())
