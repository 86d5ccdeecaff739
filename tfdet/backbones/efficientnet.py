"""EfficientNet, without its classifier: https://arxiv.org/abs/1905.11946."""

import math
from typing import Any, NamedTuple

import keras

from tfdet.errors import UserError
from tfdet.layers.activation import activation as get_activation
from tfdet.layers.batch_norm import Kind, batch_norm
from tfdet.layers.composite import Composite
from tfdet.layers.initializers import FAN_OUT_NORMAL
from tfdet.layers.mbconv import MBConv
from tfdet.tensors import Tensor


class MBConvStage(NamedTuple):
    """Blocks of one shape; the first of them has the stride."""

    repeats: int
    kernel_size: int
    strides: int
    expand: int
    filters: int


# The paper's table 1.
_STAGES = (
    MBConvStage(1, 3, 1, 1, 16),
    MBConvStage(2, 3, 2, 6, 24),
    MBConvStage(2, 5, 2, 6, 40),
    MBConvStage(3, 3, 2, 6, 80),
    MBConvStage(3, 5, 1, 6, 112),
    MBConvStage(4, 5, 2, 6, 192),
    MBConvStage(1, 3, 1, 6, 320),
)
_STEM_FILTERS = 32

# Width and depth multipliers. The two smallest ones are ours, for demonstrations and tests.
SCALES = {
    "b0": (1.0, 1.0),
    "b1": (1.0, 1.1),
    "b2": (1.1, 1.2),
    "b3": (1.2, 1.4),
    "b4": (1.4, 1.8),
    "b5": (1.6, 2.2),
    "b6": (1.8, 2.6),
    "b7": (2.0, 3.1),
    "lite0": (1.0, 1.0),
    "lite1": (1.0, 1.1),
    "lite2": (1.1, 1.2),
    "lite3": (1.2, 1.4),
    "lite4": (1.4, 1.8),
    "nano": (0.5, 0.5),
    "test": (0.1, 0.1),
}


@keras.saving.register_keras_serializable(package="tfdet")
class EfficientNet(Composite):
    """Images [B, H, W, 3], normalised, to the levels {"P3": [B, H/8, W/8, C3], ...}.

    Sizes are rounded up. The scales "lite0" to "lite4" have ReLU6 for swish and no squeeze and
    excite, and neither their stem nor the repeats of their first and last stage grow.

    Example:
        features = EfficientNet("b0")(images)  # {"P3": ..., "P4": ..., "P5": ...}

    `added` maps are summed in where their level begins, onto the output of the layer that halves
    the map; their channels are `joint_channels`.

    Args:
        scale: a key of `SCALES`.
        levels: which levels to return, between 1 and 5.
        drop_connect: probability that the last block's branch is dropped in training; earlier
            blocks have proportionally less.
        activation: name of the activation; None is the published one of the scale.
        batch_norm: kind of batch norm.
        gradient_checkpointing: compute each block again for its gradient.
    """

    def __init__(
        self,
        scale: str = "b0",
        levels: tuple[int, ...] = (3, 4, 5),
        drop_connect: float = 0.2,
        activation: str | None = None,
        batch_norm: Kind = "plain",
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_scale(scale)
        self.scale = scale
        self.levels = tuple(levels)
        self.drop_connect = drop_connect
        self.activation = activation or own_activation(scale)
        self.batch_norm = batch_norm
        self.gradient_checkpointing = gradient_checkpointing
        self.act = get_activation(self.activation)
        self.stages = stages(scale)
        self._add_layers()

    def _add_layers(self) -> None:
        self.stem_conv = keras.layers.Conv2D(
            stem_filters(self.scale),
            3,
            strides=2,
            padding="same",
            use_bias=False,
            kernel_initializer=FAN_OUT_NORMAL,
            name="stem_conv",
        )
        self.stem_bn = batch_norm(self.batch_norm, name="stem_bn")
        total = sum(stage.repeats for stage in self.stages)
        self.blocks = []
        for stage in self.stages:
            for i in range(stage.repeats):
                index = len(self.blocks)
                block = MBConv(
                    stage.filters,
                    stage.kernel_size,
                    stage.strides if i == 0 else 1,
                    stage.expand,
                    se_ratio=0.0 if is_lite(self.scale) else 0.25,
                    drop_rate=self.drop_connect * index / total,
                    activation=self.activation,
                    batch_norm=self.batch_norm,
                    gradient_checkpointing=self.gradient_checkpointing,
                    name=f"blocks_{index}",
                )
                self.blocks.append(block)

    @property
    def channels(self) -> dict[str, int]:
        """Channels of the levels that are returned."""
        last = [i for i, stage in enumerate(self.stages[1:]) if stage.strides > 1]
        last.append(len(self.stages) - 1)
        return {f"P{level}": self.stages[last[level - 1]].filters for level in self.levels}

    @property
    def joint_channels(self) -> dict[str, int]:
        """Channels of what each level begins with, where `added` maps go."""
        strided = [stage.filters for stage in self.stages if stage.strides > 1]
        return {f"P{i}": c for i, c in enumerate([stem_filters(self.scale), *strided], 1)}

    def call(
        self,
        images: Tensor,
        training: bool | None = None,
        added: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        added = added or {}
        x = self.act(self.stem_bn(self.stem_conv(images), training=training))
        x = x + added["P1"] if "P1" in added else x
        # A level is the last map before the next stride.
        reductions = []
        for block in self.blocks:
            if block.strides > 1:
                reductions.append(x)
            x = block(x, training=training)
            level = f"P{len(reductions) + 1}"
            x = x + added[level] if block.strides > 1 and level in added else x
        reductions.append(x)
        return {f"P{level}": reductions[level - 1] for level in self.levels}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "scale": self.scale,
            "levels": self.levels,
            "drop_connect": self.drop_connect,
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "gradient_checkpointing": self.gradient_checkpointing,
        }


def is_lite(scale: str) -> bool:
    """Whether a scale is one for phones: without squeeze and excite, and with other pixels."""
    return scale.startswith("lite")


def own_activation(scale: str) -> str:
    """The activation that a scale was published with."""
    return "relu6" if is_lite(scale) else "swish"


def own_pixels(scale: str) -> str:
    """The pixels that a scale was published with, a key of `layers.image_normalization.PIXELS`."""
    return "lite" if is_lite(scale) else "imagenet"


def check_scale(scale: str) -> None:
    """Refuses a name that is not in `SCALES`."""
    if scale not in SCALES:
        raise UserError(f"unknown EfficientNet {scale!r}; use one of {', '.join(SCALES)}")


def stages(scale: str) -> tuple[MBConvStage, ...]:
    """The stages of one scale, with its widths and repeats."""
    width, depth = SCALES[scale]
    fixed = (0, len(_STAGES) - 1) if is_lite(scale) else ()
    return tuple(
        stage._replace(
            repeats=stage.repeats if i in fixed else math.ceil(depth * stage.repeats),
            filters=round_filters(stage.filters * width),
        )
        for i, stage in enumerate(_STAGES)
    )


def stem_filters(scale: str) -> int:
    if is_lite(scale):
        return _STEM_FILTERS
    return round_filters(_STEM_FILTERS * SCALES[scale][0])


def round_filters(filters: float) -> int:
    """The multiple of 8 nearest to `filters`, but never less than 90 % of it."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded
