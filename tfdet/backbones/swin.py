"""Swin transformers (https://arxiv.org/abs/2103.14030) without classifiers."""

import dataclasses
from typing import Any

import keras
from keras import ops

from tfdet import records
from tfdet.errors import UserError
from tfdet.layers.activation import gelu
from tfdet.layers.composite import Composite, checkpointed
from tfdet.layers.convolution import Conv2D
from tfdet.layers.window_attention import WindowAttention
from tfdet.tensors import Tensor

_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class SwinStyle:
    """The shape of a Swin transformer.

    Attributes:
        repeats: blocks of each of the four stages.
        filters: width of the first stage; each further one has twice that of the one before.
        head_width: channels of an attention head.
        window: side of the attention's windows.
        drop_rate: probability that the last block's branches are dropped for an image in training;
            that of the others rises to it from 0.
    """

    repeats: tuple[int, int, int, int]
    filters: int = 96
    head_width: int = 32
    window: int = 7
    drop_rate: float = 0.2


STYLES = {
    "swin-t": SwinStyle((2, 2, 6, 2)),
    "swin-s": SwinStyle((2, 2, 18, 2)),
    # Ours, for unit tests.
    "swin-test": SwinStyle((1, 2, 1, 1), filters=8, head_width=4, window=3),
}


@keras.saving.register_keras_serializable(package="tfdet")
class Swin(Composite):
    """Images [B, H, W, 3], normalised, to the levels {"P2": [B, H/4, W/4, C2], ...}.

    Level l is the normalised output of stage l - 1. Sizes are rounded up.

    `added` maps, of `joint_channels`, are summed onto what their level's stage begins with.

    Example:
        features = Swin("swin-t")(images)  # {"P2": [..., 96], ..., "P5": [..., 768]}

    Args:
        style: a key of `STYLES`, or a style.
        levels: which levels to return, of 2 to 5.
        gradient_checkpointing: compute each block again for its gradient; no branch is dropped
            then, since the second run would drop others.
        gives_tokens: also return "tokens", what the first stage begins with.
        continues: begin with another Swin's tokens in the place of images, without patches of its
            own.
    """

    def __init__(
        self,
        style: str | SwinStyle = "swin-t",
        levels: tuple[int, ...] = (2, 3, 4, 5),
        gradient_checkpointing: bool = False,
        gives_tokens: bool = False,
        continues: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(style, str) and style not in STYLES:
            raise UserError(f"unknown Swin {style!r}; {records.nearest(style, STYLES)}")
        self.style = style = STYLES[style] if isinstance(style, str) else style
        self.levels = tuple(levels)
        self.gradient_checkpointing = gradient_checkpointing
        self.gives_tokens = gives_tokens
        self.continues = continues
        if not continues:
            self.patches = Conv2D(style.filters, 4, strides=4, name="patches")
            self.patch_norm = _norm("patch_norm")
        self.stages = [self._stage(number) for number in range(4)]
        self.merges = [PatchMerging(name=f"merge_{number + 1}") for number in range(3)]
        self.norms = {level: _norm(f"norm_{level}") for level in self.levels}

    def _stage(self, number: int) -> list["SwinBlock"]:
        style, before = self.style, sum(self.style.repeats[:number])
        last = max(sum(style.repeats) - 1, 1)
        return [
            SwinBlock(
                style.filters * 2**number // style.head_width,
                style.window,
                style.window // 2 if i % 2 else 0,
                0.0 if self.gradient_checkpointing else style.drop_rate * (before + i) / last,
                name=f"stage_{number + 1}_block_{i}",
            )
            for i in range(style.repeats[number])
        ]

    @property
    def begins_with(self) -> str:
        """The map of another Swin in the place of images; "" for images."""
        return "tokens" if self.continues else ""

    @property
    def channels(self) -> dict[str, int]:
        """Channels of the levels that are returned."""
        return {f"P{level}": self.style.filters * 2 ** (level - 2) for level in self.levels}

    @property
    def joint_channels(self) -> dict[str, int]:
        """Channels of `added`."""
        return {f"P{level}": self.style.filters * 2 ** (level - 2) for level in (2, 3, 4, 5)}

    def _tokens(self, images: Tensor) -> Tensor:
        down, right = (-side % 4 for side in images.shape[1:3])
        x = ops.pad(images, ((0, 0), (0, down), (0, right), (0, 0)))
        return self.patch_norm(self.patches(x))

    def call(
        self,
        images: Tensor,
        training: bool | None = None,
        added: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        x = images if self.continues else self._tokens(images)
        maps = {"tokens": x} if self.gives_tokens else {}
        for number, blocks in enumerate(self.stages):
            if number:
                x = self.merges[number - 1](x)
            if f"P{number + 2}" in (added or {}):
                x = x + added[f"P{number + 2}"]
            for block in blocks:
                x = self._run(block, x, training)
            if number + 2 in self.norms:
                maps[f"P{number + 2}"] = self.norms[number + 2](x)
        return maps

    def _run(self, block: "SwinBlock", x: Tensor, training: bool | None) -> Any:
        if self.gradient_checkpointing and training:
            return checkpointed(lambda x: block(x, training=training), x)
        return block(x, training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "style": records.to_dict(self.style),
            "levels": self.levels,
            "gradient_checkpointing": self.gradient_checkpointing,
            "gives_tokens": self.gives_tokens,
            "continues": self.continues,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Swin":
        return cls(**{**config, "style": records.from_dict(SwinStyle, config["style"])})


@keras.saving.register_keras_serializable(package="tfdet")
class SwinBlock(Composite):
    """Attention in windows and two dense layers, each with a norm before it and a residual.

    Args:
        heads, window, shift: see `WindowAttention`.
        drop_rate: probability that a branch is dropped for an image in training.
    """

    def __init__(
        self, heads: int, window: int = 7, shift: int = 0, drop_rate: float = 0.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.drop_rate = drop_rate
        self.attention = WindowAttention(heads, window, shift, name="attention")
        self.norm1, self.norm2 = _norm("norm1"), _norm("norm2")
        self.drop = keras.layers.Dropout(drop_rate, (None, 1, 1, 1)) if drop_rate else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = input_shape[-1]
        initializer = keras.initializers.TruncatedNormal(stddev=0.02)
        self.dense1, self.dense2 = (
            keras.layers.Dense(units, kernel_initializer=initializer, name=name)
            for units, name in ((4 * width, "dense1"), (width, "dense2"))
        )
        super().build(input_shape)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        x = x + self._dropped(self.attention(self.norm1(x)), training)
        y = self.dense2(gelu(self.dense1(self.norm2(x))))
        return x + self._dropped(y, training)

    def _dropped(self, branch: Tensor, training: bool | None) -> Tensor:
        return branch if self.drop is None else self.drop(branch, training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "heads": self.attention.heads,
            "window": self.attention.window,
            "shift": self.attention.shift,
            "drop_rate": self.drop_rate,
        }


@keras.saving.register_keras_serializable(package="tfdet")
class PatchMerging(Composite):
    """Each 2x2 cells of a map to one: [B, H, W, C] -> [B, H/2, W/2, 2 C], rounded up."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.norm = _norm("norm")
        self.reduce = keras.layers.Dense(2 * input_shape[-1], use_bias=False, name="reduce")
        super().build(input_shape)

    def call(self, x: Tensor) -> Tensor:
        down, right = (-side % 2 for side in x.shape[1:3])
        x = ops.pad(x, ((0, 0), (0, down), (0, right), (0, 0)))
        # The order of the published weights: down first, then to the right.
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduce(self.norm(ops.concatenate(corners, axis=-1)))


def _norm(name: str) -> keras.layers.LayerNormalization:
    return keras.layers.LayerNormalization(epsilon=_EPSILON, name=name)
