"""How the backbone of a cascade's second detector is fed by that of the first."""

from typing import Any

import keras
from keras import ops

from tfdet.layers.composite import Composite
from tfdet.layers.initializers import uniform_bias, uniform_kernel
from tfdet.layers.resample import enlarge


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

    Coarse maps are enlarged to their nearest neighbours (`layers.resample.enlarge`): pixels are
    repeated where the factor is whole.
    """

    def __init__(self, channels: dict[str, int], **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = dict(channels)

    def build(self, input_shape: dict[str, tuple[int | None, ...]]) -> None:
        self.targets = [name for name in _ordered(self.channels) if name in input_shape]
        self.convs = {}
        for name in _ordered(input_shape):
            widths = self._widths(name)
            if widths:
                self.convs[name] = keras.layers.Conv2D(
                    sum(widths),
                    1,
                    kernel_initializer=uniform_kernel(),
                    bias_initializer=uniform_bias(input_shape[name][-1]),
                    name=f"from_{name.lower()}",
                )
        super().build(input_shape)

    def _widths(self, source: str) -> list[int]:
        """Widths for the levels that the map `source` is added to, which are its own and below."""
        return [self.channels[t] for t in self.targets if _level(t) <= _level(source)]

    def call(self, maps: dict[str, Any]) -> dict[str, Any]:
        sums: dict[str, Any] = {}
        # From the coarsest map down: a sum is enlarged step by step, which touches the large maps
        # once instead of once per source.
        for source in reversed(self.convs):
            size = maps[source].shape[1:3]
            parts = _split(self.convs[source](maps[source]), self._widths(source))
            for target, part in zip(self.targets, parts, strict=False):
                sums[target] = part + enlarge(sums[target], size) if target in sums else part
        return {
            target: enlarge(sums[target], maps[target].shape[1:3])
            for target in self.targets
            if target in sums
        }

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels}


def _split(x: Any, widths: list[int]) -> list[Any]:
    """Channels of `x` in groups of these widths."""
    ends = [sum(widths[:i]) for i in range(1, len(widths))]
    return ops.split(x, ends, axis=-1) if ends else [x]


def _level(name: str) -> int:
    return int(name[1:])


def _ordered(names: Any) -> list[str]:
    return sorted(names, key=_level)
