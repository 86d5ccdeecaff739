"""The router of DynamicDet: https://arxiv.org/abs/2304.05552, section 3.2."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfdet.errors import UserError
from tfdet.layers.composite import Composite
from tfdet.layers.initializers import uniform_bias, uniform_kernel
from tfdet.tensors import Tensor

# The sigmoid or tanh of a large number rounds to 1, and a threshold of 1 is to be above every
# score.
LARGEST_SCORE = float(np.nextafter(np.float32(1), np.float32(0)))


@keras.saving.register_keras_serializable(package="tfdet")
class Router(Composite):
    """Maps {"P1": [B, H_1, W_1, C_1], ...} to how easy each image is, float32 [B] in [0, 1).

    The mean of every channel, a hidden layer, and a sigmoid. The paper's difficulty is 1 minus
    this easiness.

    Args:
        reduction: the hidden layer has this part of the channels of all maps together.
        levels: the maps that it looks at; all where there are none.
    """

    def __init__(self, reduction: int = 4, levels: tuple[int, ...] = (), **kwargs: Any):
        super().__init__(**kwargs)
        self.reduction = reduction
        self.levels = tuple(levels)

    def build(self, input_shape: dict[str, tuple[int | None, ...]]) -> None:
        width = sum(input_shape[name][-1] for name in self._seen(input_shape))
        hidden = max(1, width // self.reduction)
        self.hidden = _dense(hidden, width, "hidden")
        self.score = _dense(1, hidden, "score")
        super().build(input_shape)

    def _seen(self, maps: dict[str, Tensor]) -> list[str]:
        names = [f"P{level}" for level in self.levels] or list(maps)
        missing = [name for name in names if name not in maps]
        if missing:
            raise UserError(f"the router has no {missing[0]} to look at, only {', '.join(maps)}")
        return sorted(names, key=lambda name: int(name[1:]))

    def call(self, maps: dict[str, Tensor]) -> Tensor:
        means = [ops.mean(maps[name], axis=(1, 2)) for name in self._seen(maps)]
        means = ops.concatenate(means, axis=-1)
        logits = ops.cast(self.score(ops.relu(self.hidden(means))), "float32")
        return ops.minimum(ops.sigmoid(logits[:, 0]), LARGEST_SCORE)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "reduction": self.reduction, "levels": self.levels}


def _dense(units: int, inputs: int, name: str) -> keras.layers.Dense:
    return keras.layers.Dense(
        units,
        kernel_initializer=uniform_kernel(),
        bias_initializer=uniform_bias(inputs),
        name=name,
    )
