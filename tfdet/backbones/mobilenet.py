"""MobileNet-v2 without its classifier: https://arxiv.org/abs/1801.04381."""

from typing import Any

import keras

from tfdet.layers.batch_norm import Kind, batch_norm
from tfdet.layers.composite import Composite, checkpointed
from tfdet.layers.initializers import FAN_OUT_NORMAL
from tfdet.layers.symmetric import SymmetricConv2D, SymmetricDepthwiseConv2D

# Expansion, filters, repeats and stride of each stage: the paper's table 2.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM_FILTERS = 32
_LAST_FILTERS = 1280
_EPSILON = 1e-5
_MOMENTUM = 0.9
# Width multipliers. The smallest is ours, for unit tests.
SCALES = {"mnv2": 1.0, "mnv2-half": 0.5, "mnv2-test": 0.25, "mnv2-1280": 1.0}
# Those whose P5 is the classifier's last convolution.
_WITH_LAST = ("mnv2-1280",)


@keras.saving.register_keras_serializable(package="tfdet")
class MobileNetV2(Composite):
    """Images [B, H, W, 3], normalised, to the levels {"P3": [B, H/8, W/8, C3], ...}.

    A level is the last map before the next stride: 24, 32, 96 and 320 channels from P2 to P5 at
    full width. Sizes are rounded up; padding is symmetric. "mnv2-1280" has the 1x1 convolution to
    1280 channels that comes before the classifier, and its output is P5.

    Example:
        features = MobileNetV2()(images)  # {"P3": ..., "P4": ..., "P5": ...}

    Args:
        scale: a key of `SCALES`.
        levels: which levels to return, of 1 to 5.
        batch_norm: kind of batch norm.
        gradient_checkpointing: compute each block again for its gradient.
    """

    def __init__(
        self,
        scale: str = "mnv2",
        levels: tuple[int, ...] = (3, 4, 5),
        batch_norm: Kind = "plain",
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.scale = scale
        self.levels = tuple(levels)
        self.batch_norm = batch_norm
        self.gradient_checkpointing = gradient_checkpointing
        self.stem_conv = SymmetricConv2D(
            _scaled(_STEM_FILTERS, scale),
            3,
            strides=2,
            use_bias=False,
            kernel_initializer=FAN_OUT_NORMAL,
            name="stem_conv",
        )
        self.stem_bn = _norm(batch_norm, "stem_bn")
        self.blocks = [
            InvertedResidual(
                expand,
                _scaled(filters, scale),
                stride if i == 0 else 1,
                batch_norm,
                name=f"stage_{number}_block_{i}",
            )
            for number, (expand, filters, repeats, stride) in enumerate(_STAGES, start=1)
            for i in range(repeats)
        ]
        self.last_conv = self.last_bn = None
        if scale in _WITH_LAST:
            self.last_conv = _pointwise(_LAST_FILTERS, "last_conv")
            self.last_bn = _norm(batch_norm, "last_bn")

    @property
    def channels(self) -> dict[str, int]:
        """Channels of the levels that are returned."""
        before = zip(self.blocks, self.blocks[1:], strict=False)
        widths = [block.filters for block, after in before if after.strides > 1]
        last = self.blocks[-1].filters if self.last_conv is None else _LAST_FILTERS
        return {f"P{level}": [*widths, last][level - 1] for level in self.levels}

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        x = keras.activations.relu6(self.stem_bn(self.stem_conv(images), training=training))
        reductions = []
        for block in self.blocks:
            if block.strides > 1:
                reductions.append(x)
            x = self._run(block, x, training)
        if self.last_conv is not None:
            x = keras.activations.relu6(self.last_bn(self.last_conv(x), training=training))
        reductions.append(x)
        return {f"P{level}": reductions[level - 1] for level in self.levels}

    def _run(self, block: "InvertedResidual", x: Any, training: bool | None) -> Any:
        if self.gradient_checkpointing and training:
            return checkpointed(lambda x: block(x, training=training), x)
        return block(x, training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "scale": self.scale,
            "levels": self.levels,
            "batch_norm": self.batch_norm,
            "gradient_checkpointing": self.gradient_checkpointing,
        }


@keras.saving.register_keras_serializable(package="tfdet")
class InvertedResidual(Composite):
    """1x1 expansion, depthwise 3x3, linear 1x1 projection, and a shortcut where shapes agree.

    Args:
        expand: the inner width is this many times the input's; 1 has no expansion.
        filters: output channels.
        strides: of the depthwise convolution.
        batch_norm: kind of batch norm.
    """

    def __init__(self, expand: int, filters: int, strides: int, batch_norm: Kind, **kwargs: Any):
        super().__init__(**kwargs)
        self.expand = expand
        self.filters = filters
        self.strides = strides
        self.batch_norm = batch_norm
        self.expansion = self.expansion_bn = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[-1]
        if self.expand > 1:
            self.expansion = _pointwise(channels * self.expand, "expansion")
            self.expansion_bn = _norm(self.batch_norm, "expansion_bn")
        self.depthwise = SymmetricDepthwiseConv2D(
            3,
            strides=self.strides,
            use_bias=False,
            depthwise_initializer=FAN_OUT_NORMAL,
            name="depthwise",
        )
        self.depthwise_bn = _norm(self.batch_norm, "depthwise_bn")
        self.projection = _pointwise(self.filters, "projection")
        self.projection_bn = _norm(self.batch_norm, "projection_bn")
        self.has_shortcut = self.strides == 1 and channels == self.filters
        super().build(input_shape)

    def call(self, x: Any, training: bool | None = None) -> Any:
        relu6 = keras.activations.relu6
        y = x
        if self.expansion is not None:
            y = relu6(self.expansion_bn(self.expansion(y), training=training))
        y = relu6(self.depthwise_bn(self.depthwise(y), training=training))
        y = self.projection_bn(self.projection(y), training=training)
        return x + y if self.has_shortcut else y

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "expand": self.expand,
            "filters": self.filters,
            "strides": self.strides,
            "batch_norm": self.batch_norm,
        }


def _pointwise(filters: int, name: str) -> keras.layers.Conv2D:
    return keras.layers.Conv2D(
        filters, 1, use_bias=False, kernel_initializer=FAN_OUT_NORMAL, name=name
    )


def _norm(kind: Kind, name: str) -> keras.layers.Layer:
    return batch_norm(kind, name, epsilon=_EPSILON, momentum=_MOMENTUM)


def _scaled(filters: int, scale: str) -> int:
    """The nearest multiple of 8, at least 8."""
    return max(8, int(filters * SCALES[scale] + 4) // 8 * 8)
