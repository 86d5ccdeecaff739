"""What a cascade of two detectors is made of, as records."""

import dataclasses
from typing import Any, Literal

from tfdet import records
from tfdet.detectors.detector_config import DetectorConfig
from tfdet.detectors.second_backbone import BackboneConfig
from tfdet.errors import UserError
from tfdet.losses.router import RouterLossConfig


@dataclasses.dataclass(frozen=True)
class DynamicConfig(DetectorConfig):
    """What a `DynamicDetector` needs beside its parts; fields of `DetectorConfig` and these.

    Attributes:
        step: what training trains: "joint" both detectors, with the sum of their losses; "router"
            the router alone, on frozen detectors.
        threshold: of a new model: images that are less easy go to the second detector; 0 sends
            none, 1 all. None is 1 in the joint step, whose router is not trained yet, so that the
            second detector is measured (0 measures the first), and 0.5 after that.
        first_weight: factor of the first detector's losses in the joint step. DynamicDet adds both
            with 1; CBNetV2, which has the first for its training alone, with 0.5.
        router_loss: of the router step, see `losses.router.RouterLossConfig`.
    """

    num_classes: int = 90
    step: Literal["joint", "router"] = "joint"
    threshold: float | None = None
    first_weight: float = 1.0
    router_loss: RouterLossConfig = dataclasses.field(default_factory=RouterLossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UserError(f"threshold must be between 0 and 1, got {self.threshold}")
        if self.first_weight < 0:
            raise UserError(f"first_weight must be at least 0, got {self.first_weight}")

    @property
    def first_threshold(self) -> float:
        """The threshold of a new model."""
        if self.threshold is not None:
            return self.threshold
        return 1.0 if self.step == "joint" else 0.5


@dataclasses.dataclass(frozen=True)
class CascadeConfig(DynamicConfig):
    """A dynamic detector of two registered ones; fields of `DynamicConfig` and these.

    Attributes:
        first, second: {"name": registered name, **changes to its configuration}. Image size,
            classes and weight decay are the cascade's.
        shared_heads: the second detector is a backbone alone, whose features go through the neck
            and the heads of the first. `second` then has changes to the keys of the first one's
            backbone, see `detectors.second_backbone.BackboneConfig`.
        router_reduction, router_levels: see `layers.router.Router`.
    """

    first: dict[str, Any] = dataclasses.field(default_factory=dict)
    second: dict[str, Any] = dataclasses.field(default_factory=dict)
    shared_heads: bool = False
    router_reduction: int = 4
    router_levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.router_reduction < 1:
            raise UserError(f"router_reduction must be at least 1, got {self.router_reduction}")
        self.part("first")  # checks its keys
        _ = self.second_backbone if self.shared_heads else self.part("second")

    def part(self, role: Literal["first", "second"]) -> tuple[str, Any]:
        """Name and full configuration of one of the detectors."""
        return self.config_of_part(role, getattr(self, role))

    @property
    def second_backbone(self) -> BackboneConfig:
        """Of a cascade with shared heads."""
        return records.replace(BackboneConfig.of(*self.part("first")), self.second, "second")

    @property
    def dynamic(self) -> DynamicConfig:
        """The part of it that the model keeps beside its detectors."""
        fields = dataclasses.fields(DynamicConfig)
        return DynamicConfig(**{field.name: getattr(self, field.name) for field in fields})
