"""How the backbone of a cascade's second detector is fed by that of the first."""

from typing import Any, Literal

import keras
from keras import ops

from tfdet.layers.batch_norm import batch_norm
from tfdet.layers.composite import Composite
from tfdet.layers.convolution import Conv2D
from tfdet.layers.initializers import uniform_bias, uniform_kernel
from tfdet.layers.resample import enlarge_nearest
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class DenseComposition(Composite):
    """Maps of one backbone {"P1": [B, H_1, W_1, C_1], ...} to those that another one adds.

    CBNetV2's dense higher-level composition as DynamicDet has it: a level of the second backbone
    gets the sum of that level and of all coarser ones of the first, each through a 1x1 convolution.
    All convolutions of one map are a single one whose outputs are split.

    Paper: https://arxiv.org/abs/2107.00420, section 3.3.

    Args:
        channels: width of the sum at each level, as {"P1": 64, ...}; levels that the first backbone
            lacks get nothing.
        own_level: how a level takes part in its own sum: through the "convolution", as it is
            ("identity", whose width must fit), or not at all ("none").
        scaled: a batch norm in the place of the bias, which always uses its moving statistics:
            a factor and a shift per channel.
        starts_at_zero: the convolutions add nothing before training.

    Coarse maps are enlarged to their nearest neighbours (`layers.resample.enlarge_nearest`): pixels
    are repeated where the factor is whole.
    """

    def __init__(
        self,
        channels: dict[str, int],
        own_level: Literal["convolution", "identity", "none"] = "convolution",
        scaled: bool = False,
        starts_at_zero: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = dict(channels)
        self.own_level = own_level
        self.scaled = scaled
        self.starts_at_zero = starts_at_zero

    def build(self, input_shape: dict[str, tuple[int | None, ...]]) -> None:
        self.targets = [name for name in _ordered(self.channels) if name in input_shape]
        self.convs, self.norms = {}, {}
        for name in _ordered(input_shape):
            widths = self._widths(name)
            if widths:
                self.convs[name] = self._conv(sum(widths), input_shape[name][-1], name.lower())
            if widths and self.scaled:
                # 1e-5: PyTorch's.
                self.norms[name] = batch_norm(
                    "plain",
                    f"norm_{name.lower()}",
                    epsilon=1e-5,
                    gamma_initializer="zeros" if self.starts_at_zero else "ones",
                )
        super().build(input_shape)

    def _conv(self, filters: int, inputs: int, name: str) -> Conv2D:
        is_zero = self.starts_at_zero and not self.scaled
        return Conv2D(
            filters,
            1,
            use_bias=not self.scaled,
            kernel_initializer="zeros" if is_zero else uniform_kernel(),
            bias_initializer="zeros" if is_zero else uniform_bias(inputs),
            name=f"from_{name}",
        )

    def _widths(self, source: str) -> list[int]:
        """Widths for the levels that the convolution of `source` is for: below it, and its own."""
        coarsest = _level(source) - (self.own_level != "convolution")
        return [self.channels[t] for t in self.targets if _level(t) <= coarsest]

    def call(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        sums: dict[str, Any] = {}
        # From the coarsest map down: a sum is enlarged step by step, which touches the large maps
        # once instead of once per source.
        for source in reversed(_ordered(maps)):
            for target, part in self._parts(source, maps[source]).items():
                size = maps[source].shape[1:3]
                sums[target] = (
                    part + enlarge_nearest(sums[target], size) if target in sums else part
                )
        return {
            target: enlarge_nearest(sums[target], maps[target].shape[1:3])
            for target in self.targets
            if target in sums
        }

    def _parts(self, source: str, x: Tensor) -> dict[str, Any]:
        """What the map `x` of `source` adds to each level, in its own size."""
        parts = {}
        if source in self.convs:
            y = self.convs[source](x)
            if source in self.norms:
                y = self.norms[source](y, training=False)
            parts |= zip(self.targets, _split(y, self._widths(source)), strict=False)
        if self.own_level == "identity" and source in self.targets:
            parts[source] = x
        return parts

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "channels": self.channels,
            "own_level": self.own_level,
            "scaled": self.scaled,
            "starts_at_zero": self.starts_at_zero,
        }


def _split(x: Tensor, widths: list[int]) -> list[Any]:
    """Channels of `x` in groups of these widths."""
    ends = [sum(widths[:i]) for i in range(1, len(widths))]
    return ops.split(x, ends, axis=-1) if ends else [x]


def _level(name: str) -> int:
    return int(name[1:])


def _ordered(names: Any) -> list[str]:
    return sorted(names, key=_level)
