"""ResNet-18, 50 and 101 (https://arxiv.org/abs/1512.03385), ResNeXt (https://arxiv.org/abs/1611.05431)
and their deformable form (https://arxiv.org/abs/1811.11168), without classifiers.
"""

import dataclasses
from typing import Any, Literal

import keras

from tfdet import records
from tfdet.errors import UserError
from tfdet.layers.batch_norm import Kind, batch_norm
from tfdet.layers.composite import Composite, checkpointed
from tfdet.layers.deformable_conv import DeformableConv2D
from tfdet.layers.symmetric import SymmetricConv2D, SymmetricMaxPooling2D

_KERNEL_INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"},
}


@dataclasses.dataclass(frozen=True)
class ResNetStyle:
    """The shape of a ResNet and the habits in which published weights differ.

    Attributes:
        repeats: blocks of each of the four stages.
        filters: width of the stem; the stages give 4, 8, 16 and 32 times that, those of basic
            blocks 1, 2, 4 and 8 times that.
        groups, group_width: of the 3x3 convolutions of bottlenecks; their width in the first stage
            is the product.
        strides_first: the stride is in a block's first 1x1 convolution, as in the original weights
            from MSRA, instead of in the 3x3.
        deformable_stages: stages (1 to 4) of bottlenecks whose 3x3 convolutions are deformable.
        epsilon: of the batch norms. The frozen ones of Detectron's family have none.
        block: "bottleneck", or "basic": two 3x3 convolutions (ResNet-18).
    """

    repeats: tuple[int, int, int, int]
    filters: int = 64
    groups: int = 1
    group_width: int = 64
    strides_first: bool = True
    deformable_stages: tuple[int, ...] = ()
    epsilon: float = 0.0
    block: Literal["bottleneck", "basic"] = "bottleneck"


_R50, _R101 = (3, 4, 6, 3), (3, 4, 23, 3)
_X101 = ResNetStyle(_R101, groups=64, group_width=4, strides_first=False)

STYLES = {
    "r50": ResNetStyle(_R50),
    "r101": ResNetStyle(_R101),
    # As in torchvision and its descendants.
    "r18": ResNetStyle((2, 2, 2, 2), epsilon=1e-5, block="basic"),
    "r50-3x3": ResNetStyle(_R50, strides_first=False, epsilon=1e-5),
    "r101-3x3": ResNetStyle(_R101, strides_first=False, epsilon=1e-5),
    "x101-32x4d": ResNetStyle(_R101, groups=32, group_width=4, strides_first=False, epsilon=1e-5),
    "x101": _X101,
    "x101-dcn": dataclasses.replace(_X101, deformable_stages=(3, 4)),
    # Ours, for unit tests.
    "resnet-test": ResNetStyle((1, 1, 1, 1), filters=8, group_width=8, epsilon=1e-5),
}


@keras.saving.register_keras_serializable(package="tfdet")
class ResNet(Composite):
    """Images [B, H, W, 3], normalised, to the levels {"P3": [B, H/8, W/8, C3], ...}.

    Level l is the output of stage l - 1 (the papers' C2 to C5). Sizes are rounded up; padding is
    symmetric.

    `added` maps, of `joint_channels`, are summed onto what the next stage begins with: {"P2": ...}
    goes into the second stage, and not into the P2 that is returned (CBNetV2).

    Example:
        features = ResNet("r50")(images)  # {"P3": [..., 512], "P4": [..., 1024], "P5": [..., 2048]}

    Args:
        style: a key of `STYLES`, or a style.
        levels: which levels to return, of 2 to 5.
        batch_norm: kind of batch norm.
        frozen_stages: how many parts are not trained: 1 = the stem, 2 = the first stage too, ...
        gradient_checkpointing: compute each block again for its gradient.
        continues: begin with another ResNet's P2 in the place of images: without stem and first
            stage.
    """

    def __init__(
        self,
        style: str | ResNetStyle = "r50",
        levels: tuple[int, ...] = (3, 4, 5),
        batch_norm: Kind = "frozen",
        frozen_stages: int = 2,
        gradient_checkpointing: bool = False,
        continues: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(style, str) and style not in STYLES:
            raise UserError(f"unknown ResNet {style!r}; {records.nearest(style, STYLES)}")
        if not 0 <= frozen_stages <= 5:
            raise UserError(f"frozen_stages must be 0 to 5, got {frozen_stages}")
        self.style = STYLES[style] if isinstance(style, str) else style
        self.levels = tuple(levels)
        self.batch_norm = batch_norm
        self.frozen_stages = frozen_stages
        self.gradient_checkpointing = gradient_checkpointing
        self.continues = continues
        if not continues:
            self._add_stem()
        self.stages = [
            [] if continues and number == 1 else self._stage(number) for number in (1, 2, 3, 4)
        ]
        self._freeze()

    def _add_stem(self) -> None:
        self.stem_conv = SymmetricConv2D(
            self.style.filters,
            7,
            strides=2,
            use_bias=False,
            kernel_initializer=_KERNEL_INITIALIZER,
            name="stem_conv",
        )
        self.stem_bn = _norm(self.style, self.batch_norm, "stem_bn")
        # A layer where a function would do, here and below: the published counts see layers.
        self.relu = keras.layers.ReLU(name="relu")
        self.pool = SymmetricMaxPooling2D(3, 2, name="pool")

    @property
    def begins_with(self) -> str:
        """The map of another ResNet in the place of images; "" for images."""
        return "P2" if self.continues else ""

    @property
    def channels(self) -> dict[str, int]:
        """Channels of every level, returned or not."""
        outer = self.style.filters * (4 if self.style.block == "bottleneck" else 1)
        return {f"P{level}": outer * 2 ** (level - 2) for level in (2, 3, 4, 5)}

    @property
    def joint_channels(self) -> dict[str, int]:
        """Channels of `added`, by the level that they are summed onto."""
        return {level: width for level, width in self.channels.items() if level != "P5"}

    def _stage(self, number: int) -> list["Bottleneck | BasicBlock"]:
        block = {"bottleneck": Bottleneck, "basic": BasicBlock}[self.style.block]
        return [
            block(
                self.style,
                number,
                is_first=i == 0,
                batch_norm=self.batch_norm,
                name=f"stage_{number}_block_{i}",
            )
            for i in range(self.style.repeats[number - 1])
        ]

    def _freeze(self) -> None:
        stem = [] if self.continues else [self.stem_conv, self.stem_bn]
        parts = [stem, *self.stages]
        for part in parts[: self.frozen_stages]:
            for layer in part:
                layer.trainable = False

    def call(
        self,
        images: Any,
        training: bool | None = None,
        added: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        x = images
        if not self.continues:
            x = self.stem_bn(self.stem_conv(x), training=training)
            x = self.pool(self.relu(x))
        maps = {}
        for level, blocks in enumerate(self.stages, start=2):
            if f"P{level - 1}" in (added or {}):
                x = x + added[f"P{level - 1}"]
            for block in blocks:
                x = self._run(block, x, training)
            maps[level] = x
        return {f"P{level}": maps[level] for level in self.levels}

    def _run(self, block: keras.layers.Layer, x: Any, training: bool | None) -> Any:
        if self.gradient_checkpointing and training:
            return checkpointed(lambda x: block(x, training=training), x)
        return block(x, training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "style": records.to_dict(self.style),
            "levels": self.levels,
            "batch_norm": self.batch_norm,
            "frozen_stages": self.frozen_stages,
            "gradient_checkpointing": self.gradient_checkpointing,
            "continues": self.continues,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ResNet":
        return cls(**{**config, "style": records.from_dict(ResNetStyle, config["style"])})


class _Block(Composite):
    """What both kinds of blocks are told.

    Args:
        style: of the network.
        stage: 1 to 4; all but the first stage begin with a stride of 2.
        is_first: the first block of its stage has the stride and, where the shortcut changes, a
            projection in it.
        batch_norm: kind of batch norm.
    """

    def __init__(
        self, style: ResNetStyle, stage: int, is_first: bool, batch_norm: Kind, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.style = style
        self.stage = stage
        self.is_first = is_first
        self.batch_norm = batch_norm
        self.relu = keras.layers.ReLU(name="relu")
        self.projection = self.projection_bn = None

    @property
    def _strides(self) -> int:
        return 2 if self.is_first and self.stage > 1 else 1

    def _project(self, filters: int) -> None:
        self.projection = _conv(filters, 1, self._strides, "projection")
        self.projection_bn = _norm(self.style, self.batch_norm, "projection_bn")

    def _shortcut(self, x: Any, training: bool | None) -> Any:
        if self.projection is None:
            return x
        return self.projection_bn(self.projection(x), training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "style": records.to_dict(self.style),
            "stage": self.stage,
            "is_first": self.is_first,
            "batch_norm": self.batch_norm,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "_Block":
        return cls(**{**config, "style": records.from_dict(ResNetStyle, config["style"])})


@keras.saving.register_keras_serializable(package="tfdet")
class Bottleneck(_Block):
    """1x1, 3x3 and 1x1 convolutions with a shortcut; [B, H, W, C] -> [B, H', W', 4 * width]."""

    def __init__(
        self, style: ResNetStyle, stage: int, is_first: bool, batch_norm: Kind, **kwargs: Any
    ):
        super().__init__(style, stage, is_first, batch_norm, **kwargs)
        first, second = (self._strides, 1) if style.strides_first else (1, self._strides)
        inner = style.groups * style.group_width * 2 ** (stage - 1)
        outer = style.filters * 4 * 2 ** (stage - 1)
        self.conv1 = _conv(inner, 1, first, "conv1")
        self.conv2 = self._middle(inner, second)
        self.conv3 = _conv(outer, 1, 1, "conv3")
        self.bn1, self.bn2, self.bn3 = (_norm(style, batch_norm, f"bn{i}") for i in (1, 2, 3))
        if is_first:
            self._project(outer)

    def _middle(self, filters: int, strides: int) -> keras.layers.Layer:
        groups = self.style.groups
        if self.stage in self.style.deformable_stages:
            return DeformableConv2D(filters, 3, strides, groups, name="conv2")
        return _conv(filters, 3, strides, "conv2", groups=groups)

    def call(self, x: Any, training: bool | None = None) -> Any:
        shortcut = self._shortcut(x, training)
        y = self.relu(self.bn1(self.conv1(x), training=training))
        y = self.relu(self.bn2(self.conv2(y), training=training))
        return self.relu(self.bn3(self.conv3(y), training=training) + shortcut)


@keras.saving.register_keras_serializable(package="tfdet")
class BasicBlock(_Block):
    """Two 3x3 convolutions with a shortcut; [B, H, W, C] -> [B, H', W', width]."""

    def __init__(
        self, style: ResNetStyle, stage: int, is_first: bool, batch_norm: Kind, **kwargs: Any
    ):
        super().__init__(style, stage, is_first, batch_norm, **kwargs)
        filters = style.filters * 2 ** (stage - 1)
        self.conv1 = _conv(filters, 3, self._strides, "conv1")
        self.conv2 = _conv(filters, 3, 1, "conv2")
        self.bn1, self.bn2 = (_norm(style, batch_norm, f"bn{i}") for i in (1, 2))
        if self._strides > 1:
            self._project(filters)

    def call(self, x: Any, training: bool | None = None) -> Any:
        shortcut = self._shortcut(x, training)
        y = self.relu(self.bn1(self.conv1(x), training=training))
        return self.relu(self.bn2(self.conv2(y), training=training) + shortcut)


def _conv(filters: int, size: int, strides: int, name: str, **kwargs: Any) -> SymmetricConv2D:
    return SymmetricConv2D(
        filters,
        size,
        strides=strides,
        use_bias=False,
        kernel_initializer=_KERNEL_INITIALIZER,
        name=name,
        **kwargs,
    )


def _norm(style: ResNetStyle, kind: Kind, name: str) -> keras.layers.Layer:
    # A trained batch norm without epsilon divides by 0 where a channel is dead.
    epsilon = style.epsilon if kind == "frozen" else style.epsilon or 1e-5
    return batch_norm(kind, name, epsilon=epsilon)
