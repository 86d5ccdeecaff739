"""The keys that all configurations of detectors have, and their checks."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfdet import limits, records, registry
from tfdet.errors import UserError
from tfdet.layers.batch_norm import Kind
from tfdet.ops.nms import NMSConfig
from tfdet.printable import clean_name


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """The keys of every detector; the configuration of a family adds its own.

    Attributes:
        image_size: (height, width) of the canvas that images are fitted into.
        num_classes: classes without background.
        class_names, class_ids: a name and the data set's own id per class; may be empty.
        weight_decay: factor of the L2 loss, see `Detector.decayed`.
    """

    image_size: tuple[int, int] = (512, 512)
    num_classes: int = 80
    class_names: tuple[str, ...] = ()
    class_ids: tuple[int, ...] = ()
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check_positive("num_classes")
        if self.num_classes > limits.MAX_CLASSES:
            raise UserError(
                f"num_classes must be at most {limits.MAX_CLASSES}, got {self.num_classes}"
            )
        self._check_names()
        height, width = self.image_size
        if height * width > limits.MAX_CANVAS_PIXELS:
            raise UserError(
                f"image_size must be at most {limits.MAX_CANVAS_PIXELS} pixels, such as "
                f"8192x8192, got {height}x{width}"
            )
        if self.weight_decay < 0:
            raise UserError(f"weight_decay must be at least 0, got {self.weight_decay}")

    def check_classes(self) -> None:
        """Refuses names or ids that are not one per class.

        Of a detector, not of the record: a recipe may name the classes and leave their number to
        the data set.
        """
        for name in ("class_names", "class_ids"):
            values = getattr(self, name)
            if values and len(values) != self.num_classes:
                raise UserError(
                    f"{name} has {len(values)} entries for num_classes={self.num_classes}; "
                    "give one per class"
                )

    def _check_names(self) -> None:
        """Cleans the names of the classes; refuses two that are the same."""
        names = tuple(clean_name(name) for name in self.class_names)
        object.__setattr__(self, "class_names", names)
        seen = set()
        for name in filter(None, names):  # outputs that stand for no class have no name
            if name in seen:
                raise UserError(f"class_names has {name!r} twice; give each class its own name")
            seen.add(name)

    def check_positive(self, *names: str) -> None:
        """Refuses values under 1 of these keys, and those that no machine has memory for."""
        for name in names:
            value = getattr(self, name)
            if value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
            if value > limits.MAX_COUNT:
                raise UserError(f"{name} must be at most {limits.MAX_COUNT}, got {value}")

    def check_side(self, finest_level: int) -> None:
        """Refuses images that have no cell at the finest level."""
        if min(self.image_size) < 2**finest_level:
            raise UserError(
                f"image_size must be at least {2**finest_level} on each side, got "
                f"{self.image_size[0]}x{self.image_size[1]}"
            )

    def config_of_part(self, where: str, keys: Mapping[str, Any]) -> tuple[str, Any]:
        """Name and full configuration of a detector that is a part of this one.

        Args:
            where: the key of the part.
            keys: {"name": registered name, **changes to its configuration}; the keys of
                `DetectorConfig` are those of the whole.
        """
        changes = dict(keys)
        name = changes.pop("name", None)
        if name is None:
            raise UserError(f"{where} lacks the key 'name', that of a registered detector")
        for key in SHARED:
            if key in changes:
                raise UserError(
                    f"{where}.{key} cannot be set: parts have the {key} of the whole; set {key}"
                )
            changes[key] = getattr(self, key)
        return name, records.replace(registry.config(name), changes, where)


# Keys that a part has from the whole.
SHARED = tuple(field.name for field in dataclasses.fields(DetectorConfig))


@dataclasses.dataclass(frozen=True)
class NetworkConfig(DetectorConfig):
    """Fields of `DetectorConfig` and what convolutional detectors with anchors or points share.

    Attributes:
        batch_norm: "plain", "synchronized" over replicas, or "frozen".
        nms: see `ops.nms.NMSConfig`.
    """

    batch_norm: Kind = "plain"
    nms: NMSConfig = dataclasses.field(default_factory=NMSConfig)
