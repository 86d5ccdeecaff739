"""The recipe of a pre-training: a YAML file with the sections model, data, train and eval."""

import dataclasses
from typing import Any

from tfdet import limits, registry
from tfdet.config import TrainConfig
from tfdet.detectors.caddet import CADDet
from tfdet.errors import UserError


@dataclasses.dataclass(frozen=True)
class ImagesConfig:
    """What is learned from.

    Attributes:
        train, val: directories that have a folder of images for each class.
        image_size: (height, width) of the crops.
    """

    train: str = ""
    val: str = ""
    image_size: tuple[int, int] = (224, 224)

    def __post_init__(self) -> None:
        height, width = self.image_size
        if min(height, width) < 1 or height * width > limits.MAX_CANVAS_PIXELS:
            raise UserError(
                f"data.image_size must be 1 to {limits.MAX_CANVAS_PIXELS} pixels, got "
                f"{height}x{width}"
            )


@dataclasses.dataclass(frozen=True)
class MeasureConfig:
    """When the accuracy is measured.

    Attributes:
        interval: epochs between two measurements; the last epoch is always measured.
        batch_size: images per step.
    """

    interval: int = 1
    batch_size: int = 64


@dataclasses.dataclass(frozen=True)
class PretrainRecipe:
    """Everything that decides a run of pre-training.

    Attributes:
        model: {"name": of a registered CADDet, **changes to its configuration}.
        data: the images.
        train: the schedule.
        eval: the measurements.
    """

    model: dict[str, Any] = dataclasses.field(default_factory=lambda: {"name": "caddet-fcos"})
    data: ImagesConfig = dataclasses.field(default_factory=ImagesConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    eval: MeasureConfig = dataclasses.field(default_factory=MeasureConfig)

    def __post_init__(self) -> None:
        self.model_config()  # checks its keys
        if not issubclass(registry.detector_class(self.model.get("name", "")), CADDet):
            raise UserError(f"model.name must be that of a CADDet, got {self.model.get('name')!r}")
        for name in ("frozen", "pretrained"):
            if getattr(self.train, name):
                raise UserError(f"train.{name} has no meaning in pre-training; leave it out")
        unused = [k for k, v in self.train.additions.items() if v != TrainConfig().additions[k]]
        if unused:
            raise UserError(f"train.{unused[0]} has no meaning in pre-training; leave it out")
        if self.train.strategy == "multi_worker":
            raise UserError(
                "pre-training runs on one machine; train.strategy must be mirrored or ''"
            )

    def model_config(self) -> Any:
        """The CADDet's configuration."""
        changes = {key: value for key, value in self.model.items() if key != "name"}
        return registry.config(self.model.get("name", ""), **changes)
