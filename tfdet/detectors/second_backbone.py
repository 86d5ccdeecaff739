"""The second backbone of a cascade whose detectors share their neck and heads."""

import dataclasses
from typing import Any

import keras

from tfdet import records
from tfdet.backbones.catalog import check_pixels, make_backbone
from tfdet.backbones.protocol import ContinuingBackbone, JoinableBackbone
from tfdet.backbones.resnet import ResNet
from tfdet.backbones.swin import Swin
from tfdet.errors import UserError
from tfdet.layers.batch_norm import Kind
from tfdet.layers.dense_composition import DenseComposition
from tfdet.layers.image_normalization import PIXELS, ImageNormalization, Pixels
from tfdet.tensors import Tensor

# How the published second backbones are fed, where it is not DynamicDet's way of YOLOv7.
_COMPOSITIONS: dict[type, dict[str, Any]] = {
    ResNet: {"own_level": "none", "scaled": True, "starts_at_zero": True},
    Swin: {"own_level": "identity", "starts_at_zero": True},
}


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """Those keys of a detector that make its backbone; see `faster_rcnn.FasterRCNNConfig`."""

    backbone: str = "r50-3x3"
    pixels: Pixels = "imagenet"
    batch_norm: Kind = "frozen"
    frozen_stages: int = 2
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        check_pixels(self.backbone, self.pixels)

    @classmethod
    def of(cls, name: str, detector: Any) -> "BackboneConfig":
        """That of a registered detector's configuration."""
        fields = {field.name for field in dataclasses.fields(cls)}
        if not fields <= vars(detector).keys():
            raise UserError(
                f"shared_heads: {name} cannot share its neck and heads with a second backbone; use "
                "a two-stage detector, or leave the key false"
            )
        return cls(**{key: getattr(detector, key) for key in fields})


@keras.saving.register_keras_serializable(package="tfdet")
class SecondBackbone(keras.layers.Layer):
    """What a `DynamicDetector` has in the place of its second detector if the heads are shared.

    A ResNet has neither stem nor first stage of its own, a Swin no patches: they begin with what
    the first backbone has there, as in CBNetV2 (https://arxiv.org/abs/2107.00420). The composition
    is that paper's too, and adds nothing at first but, with Swin, the level itself. Backbones of
    other kinds see the images, and are fed as in `layers.dense_composition`.

    Args:
        config: of the backbone.
        levels: which levels to give, those of the first.
    """

    def __init__(self, config: BackboneConfig, levels: tuple[int, ...], **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config
        self.levels = tuple(levels)
        self.normalization = ImageNormalization(*PIXELS[config.pixels], name="normalization")
        self.backbone: keras.layers.Layer = make_backbone(
            config.backbone,
            levels=self.levels,
            batch_norm=config.batch_norm,
            frozen_stages=config.frozen_stages,
            gradient_checkpointing=config.gradient_checkpointing,
            role="second",
            name="backbone",
        )
        if not isinstance(self.backbone, JoinableBackbone):
            raise UserError(f"the backbone {config.backbone!r} cannot be the second of a cascade")

    def build(self, input_shape: dict[str, tuple[int | None, ...]]) -> None:
        """From the shapes of the images ("images") and of the first detector's taps."""
        self.backbone.build(input_shape[self._start(input_shape) or "images"])

    @property
    def joint_channels(self) -> dict[str, int]:
        """As of a detector."""
        return self.backbone.joint_channels

    def make_fusion(self, name: str) -> DenseComposition:
        """As of a detector."""
        options = _COMPOSITIONS.get(type(self.backbone), {})
        return DenseComposition(self.joint_channels, **options, name=name)

    def taps_after(
        self,
        images: Tensor,
        first: dict[str, Tensor],
        added: dict[str, Tensor],
        training: bool | None = None,
    ) -> dict[str, Tensor]:
        """As of a detector."""
        start = self._start(first)
        x = first[start] if start else self.normalization(images)
        return self.backbone(x, training=training, added=added)

    def _start(self, first: dict[str, Tensor]) -> str:
        """The map of the first backbone that this one begins with; "" for the images."""
        is_continuing = isinstance(self.backbone, ContinuingBackbone)
        start = self.backbone.begins_with if is_continuing else ""
        if start and start not in first:
            raise UserError(
                f"the second backbone begins with {start} of the first, which returns only "
                f"{', '.join(first)}"
            )
        return start

    def get_config(self) -> dict[str, Any]:
        config = records.to_dict(self.config)
        return {**super().get_config(), "config": config, "levels": self.levels}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SecondBackbone":
        return cls(**{**config, "config": records.from_dict(BackboneConfig, config["config"])})
