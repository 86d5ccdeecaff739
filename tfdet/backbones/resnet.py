"""ResNet-18, 50 and 101 (https://arxiv.org/abs/1512.03385), ResNeXt (https://arxiv.org/abs/1611.05431)
and their deformable form (https://arxiv.org/abs/1811.11168), without classifiers; and whatever
else an encoding says.
"""

from typing import Any

import keras

from tfdet import records
from tfdet.backbones.encoding import Block, Encoding, resnet_encoding
from tfdet.errors import UserError
from tfdet.layers.batch_norm import Kind, batch_norm
from tfdet.layers.composite import Composite, checkpointed
from tfdet.layers.deformable_conv import DeformableConv2D
from tfdet.layers.initializers import FAN_OUT_NORMAL
from tfdet.layers.symmetric import SymmetricConv2D, SymmetricMaxPooling2D
from tfdet.tensors import Tensor

_R50, _R101 = (3, 4, 6, 3), (3, 4, 23, 3)
_MSRA: dict[str, Any] = {"strides_first": True, "epsilon": 0.0}

STYLES = {
    "r50": resnet_encoding(_R50, **_MSRA),
    "r101": resnet_encoding(_R101, **_MSRA),
    # The same with an epsilon, mmdetection's style "caffe".
    "r50-caffe": resnet_encoding(_R50, strides_first=True),
    "r101-caffe": resnet_encoding(_R101, strides_first=True),
    # As in torchvision and its descendants.
    "r18": resnet_encoding((2, 2, 2, 2), basic=True),
    "r50-3x3": resnet_encoding(_R50),
    "r101-3x3": resnet_encoding(_R101),
    # Without an epsilon, as in torchvision's detectors that were trained on COCO.
    "r50-3x3-eps0": resnet_encoding(_R50, epsilon=0.0),
    # The same, with a last stage of stride 16 (DETR's "DC5").
    "r50-dc5": resnet_encoding(_R50, dilated=True),
    "r101-dc5": resnet_encoding(_R101, dilated=True),
    "x101-32x4d": resnet_encoding(_R101, groups=32, group_width=4),
    "x101-64x4d": resnet_encoding(_R101, groups=64, group_width=4),
    # Caffe2's.
    "x101": resnet_encoding(_R101, groups=64, group_width=4, epsilon=0.0),
    "x101-dcn": resnet_encoding(
        _R101, groups=64, group_width=4, epsilon=0.0, deformable_stages=(3, 4)
    ),
    # Ours, for demonstrations and unit tests.
    "resnet-nano-dc5": resnet_encoding((1, 1, 1, 1), stem=16, group_width=16, dilated=True),
    "resnet-test": resnet_encoding((1, 1, 1, 1), stem=8, group_width=8),
    "resnet-test-dc5": resnet_encoding((1, 1, 1, 1), stem=4, group_width=4, dilated=True),
}


@keras.saving.register_keras_serializable(package="tfdet")
class ResNet(Composite):
    """Images [B, H, W, 3], normalised, to the levels {"P3": [B, H/8, W/8, C3], ...}.

    Level l is the output of stage l - 1 (the papers' C2 to C5). Sizes are rounded up; padding is
    symmetric. Where the last stage keeps its map ("r50-dc5"), its output is P4, and there is no P5.

    `added` maps, of `joint_channels`, are summed onto what the next stage begins with: {"P2": ...}
    goes into the second stage, and not into the P2 that is returned (CBNetV2).

    Example:
        features = ResNet("r50")(images)  # {"P3": [..., 512], "P4": [..., 1024], "P5": [..., 2048]}

    Args:
        style: a key of `STYLES`, or an encoding.
        levels: which levels to return, of 2 to 5.
        batch_norm: kind of batch norm.
        frozen_stages: how many parts are not trained: 1 = the stem, 2 = the first stage too, ...
        gradient_checkpointing: compute each block again for its gradient.
        continues: begin with another ResNet's P2 in the place of images: without stem and first
            stage.
    """

    def __init__(
        self,
        style: str | Encoding = "r50",
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
        if max(levels) > self.style.last_level:
            raise UserError(
                "the last stage of this ResNet keeps the size of its map: it has levels up to P4, "
                f"but P{max(levels)} is needed; choose another backbone, or ask for P4"
            )
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
            self.style.stem,
            7,
            strides=2,
            use_bias=False,
            kernel_initializer=FAN_OUT_NORMAL,
            name="stem_conv",
        )
        self.stem_bn = _norm(self.style.epsilon, self.batch_norm, "stem_bn")
        # A layer where a function would do, here and below: the published counts see layers.
        self.relu = keras.layers.ReLU(name="relu")
        self.pool = SymmetricMaxPooling2D(3, 2, name="pool")

    @property
    def begins_with(self) -> str:
        """The map of another ResNet in the place of images; "" for images."""
        return "P2" if self.continues else ""

    @property
    def channels(self) -> dict[str, int]:
        """Channels of the levels that are returned."""
        widths = {self._level(i): width for i, width in enumerate(self.style.out_widths)}
        return {f"P{level}": widths[level] for level in self.levels}

    @property
    def joint_channels(self) -> dict[str, int]:
        """Channels of `added`, by the level that they are summed onto."""
        return dict(zip(("P2", "P3", "P4"), self.style.out_widths, strict=False))

    def _level(self, index: int) -> int:
        """The level of a stage's output; of two with the same one the last counts."""
        return min(index + 2, self.style.last_level)

    def _stage(self, number: int) -> list["Bottleneck | BasicBlock"]:
        kind = BasicBlock if self.style.is_basic else Bottleneck
        return [
            kind(
                block,
                self.style.strides_first,
                self.style.epsilon,
                self.batch_norm,
                name=f"stage_{number}_block_{i}",
            )
            for i, block in enumerate(self.style.stages[number - 1])
        ]

    def _freeze(self) -> None:
        stem = [] if self.continues else [self.stem_conv, self.stem_bn]
        parts = [stem, *self.stages]
        for part in parts[: self.frozen_stages]:
            for layer in part:
                layer.trainable = False

    def call(
        self,
        images: Tensor,
        training: bool | None = None,
        added: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        x = images
        if not self.continues:
            x = self.stem_bn(self.stem_conv(x), training=training)
            x = self.pool(self.relu(x))
        maps = {}
        for i, blocks in enumerate(self.stages):
            if f"P{i + 1}" in (added or {}):
                x = x + added[f"P{i + 1}"]
            for block in blocks:
                x = self._run(block, x, training)
            maps[self._level(i)] = x
        return {f"P{level}": maps[level] for level in self.levels}

    def _run(self, block: keras.layers.Layer, x: Tensor, training: bool | None) -> Any:
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
        return cls(**{**config, "style": records.from_dict(Encoding, config["style"])})


class _ResidualBlock(Composite):
    """What both kinds of blocks are told.

    Args:
        block: widths, stride, projection, groups.
        strides_first, epsilon: see `backbones.encoding.Encoding`.
        batch_norm: kind of batch norm.
    """

    def __init__(
        self, block: Block, strides_first: bool, epsilon: float, batch_norm: Kind, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.block = block
        self.strides_first = strides_first
        self.epsilon = epsilon
        self.batch_norm = batch_norm
        self.relu = keras.layers.ReLU(name="relu")
        self.projection = self.projection_bn = None

    def _project(self) -> None:
        if self.block.projection:
            self.projection = _conv(self.block.out_width, 1, self.block.stride, "projection")
            self.projection_bn = _norm(self.epsilon, self.batch_norm, "projection_bn")

    def _shortcut(self, x: Tensor, training: bool | None) -> Tensor:
        if self.projection is None:
            return x
        return self.projection_bn(self.projection(x), training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "block": records.to_dict(self.block),
            "strides_first": self.strides_first,
            "epsilon": self.epsilon,
            "batch_norm": self.batch_norm,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "_ResidualBlock":
        return cls(**{**config, "block": records.from_dict(Block, config["block"])})


@keras.saving.register_keras_serializable(package="tfdet")
class Bottleneck(_ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions with a shortcut; [B, H, W, C] -> [B, H', W', widths[2]]."""

    def __init__(
        self, block: Block, strides_first: bool, epsilon: float, batch_norm: Kind, **kwargs: Any
    ):
        super().__init__(block, strides_first, epsilon, batch_norm, **kwargs)
        first, second = (block.stride, 1) if strides_first else (1, block.stride)
        self.conv1 = _conv(block.widths[0], 1, first, "conv1")
        self.conv2 = self._middle(block.widths[1], second)
        self.conv3 = _conv(block.widths[2], 1, 1, "conv3")
        self.bn1, self.bn2, self.bn3 = (_norm(epsilon, batch_norm, f"bn{i}") for i in (1, 2, 3))
        self._project()

    def _middle(self, filters: int, strides: int) -> keras.layers.Layer:
        groups = self.block.groups
        if self.block.deformable:
            return DeformableConv2D(filters, 3, strides, groups, name="conv2")
        return _conv(filters, 3, strides, "conv2", groups=groups, dilation_rate=self.block.dilation)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        shortcut = self._shortcut(x, training)
        y = self.relu(self.bn1(self.conv1(x), training=training))
        y = self.relu(self.bn2(self.conv2(y), training=training))
        return self.relu(self.bn3(self.conv3(y), training=training) + shortcut)


@keras.saving.register_keras_serializable(package="tfdet")
class BasicBlock(_ResidualBlock):
    """Two 3x3 convolutions with a shortcut; [B, H, W, C] -> [B, H', W', widths[1]]."""

    def __init__(
        self, block: Block, strides_first: bool, epsilon: float, batch_norm: Kind, **kwargs: Any
    ):
        super().__init__(block, strides_first, epsilon, batch_norm, **kwargs)
        self.conv1 = _conv(block.widths[0], 3, block.stride, "conv1")
        self.conv2 = _conv(block.widths[1], 3, 1, "conv2")
        self.bn1, self.bn2 = (_norm(epsilon, batch_norm, f"bn{i}") for i in (1, 2))
        self._project()

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        shortcut = self._shortcut(x, training)
        y = self.relu(self.bn1(self.conv1(x), training=training))
        return self.relu(self.bn2(self.conv2(y), training=training) + shortcut)


def _conv(filters: int, size: int, strides: int, name: str, **kwargs: Any) -> SymmetricConv2D:
    return SymmetricConv2D(
        filters,
        size,
        strides=strides,
        use_bias=False,
        kernel_initializer=FAN_OUT_NORMAL,
        name=name,
        **kwargs,
    )


def _norm(epsilon: float, kind: Kind, name: str) -> keras.layers.Layer:
    # A trained batch norm without epsilon divides by 0 where a channel is dead.
    return batch_norm(kind, name, epsilon=epsilon if kind == "frozen" else epsilon or 1e-5)
