"""The backbones of YOLOv7, YOLOv7-X and YOLOv7-W6: https://arxiv.org/abs/2207.02696."""

import dataclasses
from typing import Any, Literal, NamedTuple

import keras

from tfdet.layers.blocks import BlockSpec, Style, conv, down, elan, reorg
from tfdet.layers.composite import Composite
from tfdet.tensors import Tensor

Variant = Literal["v7", "x", "w6"]


class Level(NamedTuple):
    """What makes one level from the level before it.

    Attributes:
        entry: blocks of which the last one halves the map. A first detector's features are added
            to its output.
        body: blocks after that.
        joins: whether features can be added there at all.
    """

    entry: tuple[BlockSpec, ...]
    body: tuple[BlockSpec, ...]
    joins: bool = True


# P1, P2, ... of each variant.
LEVELS: dict[str, tuple[Level, ...]] = {
    "v7": (
        Level((conv(32), conv(64, strides=2)), (conv(64),)),
        Level((conv(128, strides=2),), (elan(64, 256),)),
        Level((down(128),), (elan(128, 512),)),
        Level((down(256),), (elan(256, 1024),)),
        Level((down(512),), (elan(256, 1024),)),
    ),
    "x": (
        Level((conv(40), conv(80, strides=2)), (conv(80),)),
        Level((conv(160, strides=2),), (elan(64, 320, convs=6),)),
        Level((down(160),), (elan(128, 640, convs=6),)),
        Level((down(320),), (elan(256, 1280, convs=6),)),
        Level((down(640),), (elan(256, 1280, convs=6),)),
    ),
    "w6": (
        Level((reorg(),), (conv(64),), joins=False),
        Level((conv(128, strides=2),), (elan(64, 128),)),
        Level((conv(256, strides=2),), (elan(128, 256),)),
        Level((conv(512, strides=2),), (elan(256, 512),)),
        Level((conv(768, strides=2),), (elan(384, 768),)),
        Level((conv(1024, strides=2),), (elan(512, 1024),)),
    ),
}


def tap_channels(variant: Variant, style: Style) -> dict[str, int]:
    """Channels of the maps {"P1": ..., ...} that a backbone returns."""
    return {
        f"P{level}": stage.body[-1].channels(style)
        for level, stage in enumerate(LEVELS[variant], 1)
    }


def joint_channels(variant: Variant, style: Style) -> dict[str, int]:
    """Channels of the maps that can be added to a backbone, by level."""
    return {
        f"P{level}": stage.entry[-1].channels(style)
        for level, stage in enumerate(LEVELS[variant], 1)
        if stage.joins
    }


@keras.saving.register_keras_serializable(package="tfdet")
class YoloV7Backbone(Composite):
    """Images [B, H, W, 3] of 0–1 to all levels {"P1": [B, H/2, W/2, C1], ...}, to P5 or P6.

    Example:
        features = YoloV7Backbone("v7")(images)

    Args:
        variant: a key of `LEVELS`.
        style: of its blocks.
    """

    def __init__(self, variant: Variant = "v7", style: Style | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.variant = variant
        self.style = style or Style()
        self.entries, self.bodies = {}, {}
        for number, stage in enumerate(LEVELS[variant], 1):
            for part, kept in (("entry", self.entries), ("body", self.bodies)):
                kept[f"P{number}"] = [
                    block.make(self.style, f"p{number}_{part}_{i}")
                    for i, block in enumerate(getattr(stage, part))
                ]

    @property
    def channels(self) -> dict[str, int]:
        """Channels of the levels that are returned."""
        return tap_channels(self.variant, self.style)

    @property
    def joint_channels(self) -> dict[str, int]:
        """Channels of `added`."""
        return joint_channels(self.variant, self.style)

    def call(
        self,
        images: Tensor,
        training: bool | None = None,
        added: dict[str, Tensor] | None = None,
        strided_input: dict[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Runs the network.

        Args:
            images: [B, H, W, 3].
            training: as ever.
            added: maps to add, by level, where that level begins; shapes as `joint_channels` says.
            strided_input: maps that the strided convolutions of `MaxPoolDown` read, by level,
                instead of the level below; for the second backbone of Dy-YOLOv7-X.
        """
        x, taps = images, {}
        for level, entry in self.entries.items():
            for layer in entry:
                other = (strided_input or {}).get(level)
                extra = {} if other is None else {"strided_input": other}
                x = layer(x, training=training, **extra)
            if added is not None and level in added:
                x = x + added[level]
            for layer in self.bodies[level]:
                x = layer(x, training=training)
            taps[level] = x
        return taps

    def get_config(self) -> dict[str, Any]:
        style = dataclasses.asdict(self.style)
        return {**super().get_config(), "variant": self.variant, "style": style}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "YoloV7Backbone":
        return cls(**{**config, "style": Style(**config["style"])})
