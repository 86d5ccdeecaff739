"""The configurations of a CADDet, as records."""

import dataclasses
from typing import Any

from tfdet.backbones.grid import SupernetConfig
from tfdet.detectors.detector_config import DetectorConfig
from tfdet.detectors.fcos import FCOSConfig
from tfdet.detectors.pyramid import MAX_LEVEL, MIN_LEVEL
from tfdet.detectors.retinanet import RetinaNetConfig
from tfdet.errors import UserError
from tfdet.losses.routing_budget import RoutingLossConfig
from tfdet.necks.fpn import Kind as NeckKind


@dataclasses.dataclass(frozen=True)
class CADDetConfig(DetectorConfig):
    """A CADDet before any registered dense detector; fields of `DetectorConfig` and these.

    Attributes:
        dense: {"name": registered name, **changes to its configuration}; its backbone is the grid.
        supernet: see `backbones.grid.SupernetConfig`.
        reference_size: (height, width) of the image that costs are given for; None for image_size.
        routing_loss: see `losses.routing_budget.RoutingLossConfig`.
    """

    dense: dict[str, Any] = dataclasses.field(default_factory=dict)
    supernet: SupernetConfig = dataclasses.field(default_factory=SupernetConfig)
    reference_size: tuple[int, int] | None = None
    routing_loss: RoutingLossConfig = dataclasses.field(default_factory=RoutingLossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_scales(self.supernet)
        if self.dense:
            self.part()  # checks its keys

    @property
    def cost_size(self) -> tuple[int, int]:
        """(height, width) that costs are given for."""
        return self.reference_size or self.image_size

    def part(self) -> tuple[str, Any]:
        """Name and full configuration of the dense detector."""
        return self.config_of_part("dense", self.dense)

    @property
    def pixels(self) -> str:
        """How images are normalised, that of the dense detector."""
        return self.part()[1].pixels

    @property
    def batch_norm(self) -> str:
        """The kind of batch norms, that of the dense detector."""
        return self.part()[1].batch_norm


@dataclasses.dataclass(frozen=True)
class GridKeys:
    """The keys of a CADDet beside those of its dense detector, where both stand in one record.

    Attributes:
        backbone: "supernet"; the key is there because other detectors have it.
        frozen_stages: 0; likewise.
        neck: "projection" to one width, the paper's, or a feature pyramid.
        supernet, reference_size, routing_loss: as in `CADDetConfig`.
    """

    backbone: str = "supernet"
    frozen_stages: int = 0
    neck: NeckKind = "projection"
    supernet: SupernetConfig = dataclasses.field(default_factory=SupernetConfig)
    reference_size: tuple[int, int] | None = None
    routing_loss: RoutingLossConfig = dataclasses.field(default_factory=RoutingLossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]  # of the dense detector's keys
        for name, only in (("backbone", "supernet"), ("frozen_stages", 0)):
            if getattr(self, name) != only:
                raise UserError(
                    f"{name} of a CADDet is {only!r}, got {getattr(self, name)!r}; its backbone is "
                    "described by supernet"
                )
        _check_scales(self.supernet)

    @property
    def cost_size(self) -> tuple[int, int]:
        """(height, width) that costs are given for."""
        return self.reference_size or self.image_size  # type: ignore[attr-defined]  # likewise


@dataclasses.dataclass(frozen=True)
class CADDetFCOSConfig(GridKeys, FCOSConfig):
    """Keys of a CADDet with the head of FCOS, plain or packed."""


@dataclasses.dataclass(frozen=True)
class CADDetRetinaNetConfig(GridKeys, RetinaNetConfig):
    """Keys of a CADDet with the head of RetinaNet, plain or packed."""


def _check_scales(supernet: SupernetConfig) -> None:
    if len(supernet.channels) > MAX_LEVEL - MIN_LEVEL + 1:
        raise UserError(f"supernet.channels has more scales than levels P3 to P{MAX_LEVEL}")
