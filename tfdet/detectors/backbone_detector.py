"""Detectors made of a normalization, a backbone, a neck, and heads."""

from typing import Any

import keras

from tfdet import records
from tfdet.backbones.protocol import (
    Backbone,
    JoinableBackbone,
    check_levels,
    check_maps,
    level_channels,
)
from tfdet.detectors.base import Detector, serialize_part
from tfdet.detectors.detector_config import DetectorConfig
from tfdet.errors import UserError
from tfdet.layers.image_normalization import PIXELS, ImageNormalization
from tfdet.tensors import Tensor


class BackboneDetector(Detector):
    """`call` is `predictions(taps(images))`; subclasses have the heads and write `predictions`.

    A detector of this class can be the first one of a cascade, and the second one if its backbone
    is a `JoinableBackbone`.

    Parts that are passed in are stored with the model. To load it again, their classes must be
    registered (`keras.saving.register_keras_serializable`).

    Args:
        config: what to build.
        loss_names: see `Detector`.
        backbone: normalised images to maps by level, see `backbones.protocol.Backbone`; that of the
            configuration where not given.
        neck: the levels `backbone_levels` to the levels `neck_levels`, {"P3": [B, H/8, W/8, C],
            ...}; that of the configuration where not given.
    """

    def __init__(
        self,
        config: DetectorConfig,
        loss_names: tuple[str, ...],
        backbone: Backbone | None = None,
        neck: keras.layers.Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(config, loss_names, **kwargs)
        self.normalization = ImageNormalization(*PIXELS[self.pixels], name="normalization")
        self.backbone: keras.layers.Layer = self.make_backbone() if backbone is None else backbone
        check_levels(self._channels(), self.backbone_levels, type(self).__name__)
        self.neck: keras.layers.Layer = self.make_neck() if neck is None else neck
        self._passed_in: tuple[str, ...] = ()  # names of parts
        self._keep_passed_in(backbone=backbone, neck=neck)

    def _keep_passed_in(self, **parts: keras.layers.Layer | None) -> None:
        """Has `get_config` store these parts, unless they are None."""
        names = (name for name, part in parts.items() if part is not None)
        self._passed_in = (*self._passed_in, *names)

    def make_backbone(self) -> Backbone:
        """The backbone of the configuration."""
        raise NotImplementedError

    def make_neck(self) -> keras.layers.Layer | None:
        """The neck of the configuration; None of detectors without one."""
        return None

    @property
    def pixels(self) -> str:
        """How images are normalised for the backbone, a key of `PIXELS`."""
        return self.config.pixels

    @property
    def backbone_levels(self) -> tuple[str, ...]:
        """The levels of the backbone that predictions are made of, finest first."""
        raise NotImplementedError

    @property
    def neck_levels(self) -> tuple[str, ...]:
        """The levels of the neck, finest first; empty of detectors without one."""
        return ()

    def _channels(self) -> dict[str, int]:
        return level_channels(self.backbone)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        images = keras.KerasTensor(input_shape)
        if self._passed_in:
            self._check_parts(images)
        self.call(images)

    def _check_parts(self, images: keras.KerasTensor) -> None:
        size = tuple(images.shape[1:3])
        taps = self.taps(images)
        check_maps(taps, self._channels(), size, "backbone")
        if "neck" in self._passed_in:
            maps = self.neck({name: taps[name] for name in self.backbone_levels})
            check_maps(maps, dict.fromkeys(self.neck_levels), size, "neck")

    @property
    def pad_value(self) -> tuple[float, float, float]:
        red, green, blue = self.normalization.mean
        return red, green, blue

    @property
    def tap_channels(self) -> dict[str, int]:
        return self._channels()

    @property
    def joint_channels(self) -> dict[str, int]:
        if not isinstance(self.backbone, JoinableBackbone):
            raise UserError(
                f"the backbone {self.backbone.name!r} of {type(self).__name__} cannot be the "
                "second of a cascade: it has no `joint_channels`, see "
                "backbones.protocol.JoinableBackbone"
            )
        return dict(self.backbone.joint_channels)

    def taps(
        self,
        images: Tensor,
        training: bool | None = None,
        added: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        options = {"added": added} if added else {}
        return self.backbone(self.normalization(images), training=training, **options)

    def levels_of(self, taps: dict[str, Tensor], training: bool | None = None) -> dict[str, Any]:
        """The maps of the neck, {"P3": [B, H/8, W/8, C], ...}, of those of the backbone."""
        maps = {name: taps[name] for name in self.backbone_levels}
        maps = self.neck(maps, training=training)
        if "neck" in self._passed_in:  # heads read maps in this order
            return {name: maps[name] for name in self.neck_levels}
        return maps

    def call(self, images: Tensor, training: bool | None = None) -> dict[str, Tensor]:
        size = tuple(images.shape[1:3])
        return self.predictions(self.taps(images, training), training, size)

    def compute_output_spec(
        self, images: Tensor, training: bool | None = None
    ) -> dict[str, Tensor]:
        return self.call(images, training=training)

    def get_config(self) -> dict[str, Any]:
        parts = {name: serialize_part(getattr(self, name)) for name in self._passed_in}
        return {**super().get_config(), **parts}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "BackboneDetector":
        record: DetectorConfig = records.from_dict(cls.config_class, config["config"])
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("backbone", "neck", "head")
            if name in config
        }
        return cls(record, **parts, name=config["name"])
