"""MobileNet v1 and v2 without their classifiers.

https://arxiv.org/abs/1704.04861 and https://arxiv.org/abs/1801.04381.
"""

import itertools
from collections.abc import Callable
from typing import Any

import keras

from tfdet.layers.batch_norm import Kind, pytorch_batch_norm
from tfdet.layers.batch_norm import batch_norm as tensorflow_batch_norm
from tfdet.layers.composite import Composite, checkpointed
from tfdet.layers.convolution import DepthwiseConv2D
from tfdet.layers.initializers import FAN_OUT_NORMAL
from tfdet.layers.separable_unit import SeparableUnit, pointwise
from tfdet.layers.symmetric import SymmetricConv2D, SymmetricDepthwiseConv2D
from tfdet.tensors import Tensor

# Filters and stride of each separable convolution: table 1 of v1.
_UNITS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
# Expansion, filters, repeats and stride of each stage: table 2 of v2.
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
# Width multipliers. Those named "keras" pad and normalise as `keras.applications` does, the others
# as torchvision. The smallest of each are ours, for unit tests.
V1_SCALES = {"mnv1": 1.0, "mnv1-test": 0.125, "mnv1-keras": 1.0}
V2_SCALES = {
    "mnv2": 1.0,
    "mnv2-half": 0.5,
    "mnv2-test": 0.25,
    "mnv2-1280": 1.0,
    "mnv2-keras": 1.0,
    "mnv2-keras-1280": 1.0,
}
# Those whose P5 is the classifier's last convolution.
_WITH_LAST = ("mnv2-1280", "mnv2-keras-1280")


class _MobileNet(Composite):
    """A stem and blocks, each with `strides`. A level is the last map before the next stride.

    Subclasses add their blocks.
    """

    activation: Callable[[Any], Any]

    def __init__(
        self,
        stem_filters: int,
        scale: str,
        levels: tuple[int, ...],
        batch_norm: Kind,
        gradient_checkpointing: bool,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.scale = scale
        self.levels = tuple(levels)
        self.batch_norm = batch_norm
        self.gradient_checkpointing = gradient_checkpointing
        self.is_keras = "-keras" in scale
        self.norm = tensorflow_batch_norm if self.is_keras else pytorch_batch_norm
        conv = keras.layers.Conv2D if self.is_keras else SymmetricConv2D
        self.stem_conv = conv(
            stem_filters,
            3,
            strides=2,
            padding="same",
            use_bias=False,
            kernel_initializer=FAN_OUT_NORMAL,
            name="stem_conv",
        )
        self.stem_bn = self.norm(batch_norm, "stem_bn")

    def run(
        self,
        images: Tensor,
        blocks: list[keras.layers.Layer],
        training: bool | None,
        last: Callable[[Any], Any] = lambda x: x,
    ) -> dict[str, Any]:
        """The wanted levels; `last` follows the blocks."""
        x = self.activation(self.stem_bn(self.stem_conv(images), training=training))
        reductions = []
        for block in blocks:
            if block.strides > 1:
                reductions.append(x)
            x = self._run_block(block, x, training)
        reductions.append(last(x))
        return {f"P{level}": reductions[level - 1] for level in self.levels}

    def channels_of(
        self, blocks: list[keras.layers.Layer], last: int | None = None
    ) -> dict[str, int]:
        """Channels of the wanted levels; `last` are those of what follows the blocks."""
        before = itertools.pairwise(blocks)
        widths = [block.filters for block, after in before if after.strides > 1]
        widths.append(last or blocks[-1].filters)
        return {f"P{level}": widths[level - 1] for level in self.levels}

    def _run_block(self, block: keras.layers.Layer, x: Tensor, training: bool | None) -> Any:
        if self.gradient_checkpointing and training:
            return checkpointed(lambda x: block(x, training=training), x)
        return block(x, training=training)

    def get_config(self) -> dict[str, Any]:
        names = ("scale", "levels", "batch_norm", "gradient_checkpointing")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="tfdet")
class MobileNetV1(_MobileNet):
    """Images [B, H, W, 3], normalised, to the levels {"P3": [B, H/8, W/8, C3], ...}.

    The levels P2 to P5 have 128, 256, 512 and 1024 channels at full width. Sizes are rounded up;
    padding is symmetric; "mnv1-keras" has TensorFlow's, and ReLU6 for ReLU.

    Example:
        features = MobileNetV1()(images)  # {"P3": ..., "P4": ..., "P5": ...}

    Args:
        scale: a key of `V1_SCALES`.
        levels: which levels to return, of 1 to 5.
        batch_norm: kind of batch norm.
        gradient_checkpointing: compute each unit again for its gradient.
    """

    def __init__(
        self,
        scale: str = "mnv1",
        levels: tuple[int, ...] = (3, 4, 5),
        batch_norm: Kind = "plain",
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ):
        width = V1_SCALES[scale]
        super().__init__(
            int(_STEM_FILTERS * width), scale, levels, batch_norm, gradient_checkpointing, **kwargs
        )
        self.activation = keras.activations.relu6 if self.is_keras else keras.activations.relu
        self.units = [
            SeparableUnit(
                int(filters * width),
                stride,
                inner_norm=True,
                batch_norm=batch_norm,
                is_keras=self.is_keras,
                name=f"unit_{i}",
            )
            for i, (filters, stride) in enumerate(_UNITS)
        ]

    @property
    def channels(self) -> dict[str, int]:
        """Channels of the levels that are returned."""
        return self.channels_of(self.units)

    def call(self, images: Tensor, training: bool | None = None) -> dict[str, Tensor]:
        return self.run(images, self.units, training)


@keras.saving.register_keras_serializable(package="tfdet")
class MobileNetV2(_MobileNet):
    """Images [B, H, W, 3], normalised, to the levels {"P3": [B, H/8, W/8, C3], ...}.

    The levels P2 to P5 have 24, 32, 96 and 320 channels at full width. Sizes are rounded up;
    padding is symmetric, that of "mnv2-keras" TensorFlow's. "mnv2-1280" and "mnv2-keras-1280" have
    the 1x1 convolution to 1280 channels that comes before the classifier, and its output is P5.

    Example:
        features = MobileNetV2()(images)  # {"P3": ..., "P4": ..., "P5": ...}

    Args:
        scale: a key of `V2_SCALES`.
        levels: which levels to return, of 1 to 5.
        batch_norm: kind of batch norm.
        gradient_checkpointing: compute each block again for its gradient.
    """

    activation = staticmethod(keras.activations.relu6)

    def __init__(
        self,
        scale: str = "mnv2",
        levels: tuple[int, ...] = (3, 4, 5),
        batch_norm: Kind = "plain",
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ):
        stem = _scaled(_STEM_FILTERS, scale)
        super().__init__(stem, scale, levels, batch_norm, gradient_checkpointing, **kwargs)
        self.blocks = [
            InvertedResidual(
                expand,
                _scaled(filters, scale),
                stride if i == 0 else 1,
                batch_norm,
                self.is_keras,
                name=f"stage_{number}_block_{i}",
            )
            for number, (expand, filters, repeats, stride) in enumerate(_STAGES, start=1)
            for i in range(repeats)
        ]
        self.last_conv = self.last_bn = None
        if scale in _WITH_LAST:
            self.last_conv = pointwise(_LAST_FILTERS, 1, "last_conv")
            self.last_bn = self.norm(batch_norm, "last_bn")

    @property
    def channels(self) -> dict[str, int]:
        """Channels of the levels that are returned."""
        last = None if self.last_conv is None else _LAST_FILTERS
        return self.channels_of(self.blocks, last)

    def call(self, images: Tensor, training: bool | None = None) -> dict[str, Tensor]:
        def last(x: Tensor) -> Any:
            if self.last_conv is None:
                return x
            return self.activation(self.last_bn(self.last_conv(x), training=training))

        return self.run(images, self.blocks, training, last)


@keras.saving.register_keras_serializable(package="tfdet")
class InvertedResidual(Composite):
    """1x1 expansion, depthwise 3x3, linear 1x1 projection, and a shortcut where shapes agree.

    `layers.mbconv.MBConv` is EfficientNet's, with TensorFlow's padding and batch norms. They are
    not one class, because weights files hold the different names of their parts.

    Args:
        expand: the inner width is this many times the input's; 1 has no expansion.
        filters: output channels.
        strides: of the depthwise convolution.
        batch_norm: kind of batch norm.
        is_keras: TensorFlow's padding and epsilon, instead of symmetric padding and PyTorch's.
    """

    def __init__(
        self,
        expand: int,
        filters: int,
        strides: int,
        batch_norm: Kind,
        is_keras: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.is_keras = is_keras
        self.expand = expand
        self.filters = filters
        self.strides = strides
        self.batch_norm = batch_norm
        self.expansion = self.expansion_bn = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[-1]
        norm = tensorflow_batch_norm if self.is_keras else pytorch_batch_norm
        if self.expand > 1:
            self.expansion = pointwise(channels * self.expand, 1, "expansion")
            self.expansion_bn = norm(self.batch_norm, "expansion_bn")
        conv = DepthwiseConv2D if self.is_keras else SymmetricDepthwiseConv2D
        self.depthwise = conv(
            3,
            strides=self.strides,
            padding="same",
            use_bias=False,
            depthwise_initializer=FAN_OUT_NORMAL,
            name="depthwise",
        )
        self.depthwise_bn = norm(self.batch_norm, "depthwise_bn")
        self.projection = pointwise(self.filters, 1, "projection")
        self.projection_bn = norm(self.batch_norm, "projection_bn")
        self.has_shortcut = self.strides == 1 and channels == self.filters
        super().build(input_shape)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
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
            "is_keras": self.is_keras,
        }


def _scaled(filters: int, scale: str) -> int:
    """The nearest multiple of 8, at least 8."""
    return max(8, int(filters * V2_SCALES[scale] + 4) // 8 * 8)
