"""The router of a grid node: how much each of its outgoing paths is wanted, image by image.

Paper: https://arxiv.org/abs/2012.04265, section 3.2; details as in Dynamic Routing (CVPR 2020).
"""

from typing import Any, Literal

import keras
from keras import ops

from tfdet.layers.batch_norm import Kind, pytorch_batch_norm
from tfdet.layers.composite import Composite
from tfdet.layers.folding import normed
from tfdet.layers.router import LARGEST_SCORE
from tfdet.tensors import Tensor

GateFunction = Literal["tanh", "sigmoid"]

_INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_in", "distribution": "untruncated_normal"},
}


@keras.saving.register_keras_serializable(package="tfdet")
class GateRouter(Composite):
    """A map [B, H, W, C] to gates [B, gates], float32, in [0, 1); 1 itself in training only.

    The means of the four quarters of the map, a 1x1 convolution, batch norm, ReLU, the mean of the
    four, and a linear layer.

    Args:
        gates: how many paths there are.
        reduction: the hidden layer has this part of the map's channels.
        function: "tanh", max(0, tanh(z)), which can close a gate; or "sigmoid", which cannot.
        bias: of the linear layer at the start; 1.5 opens all gates to 0.905.
        batch_norm: kind of batch norm.
    """

    def __init__(
        self,
        gates: int,
        reduction: int = 2,
        function: GateFunction = "tanh",
        bias: float = 1.5,
        batch_norm: Kind = "plain",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.gates = gates
        self.reduction = reduction
        self.function = function
        self.bias = bias
        self.batch_norm = batch_norm

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        hidden = max(1, input_shape[-1] // self.reduction)
        self.hidden = keras.layers.Conv2D(
            hidden, 1, use_bias=False, kernel_initializer=_INITIALIZER, name="hidden"
        )
        self.bn = pytorch_batch_norm(self.batch_norm, "bn")
        self.score = keras.layers.Dense(
            self.gates,
            kernel_initializer=_INITIALIZER,
            bias_initializer=keras.initializers.Constant(self.bias),
            name="score",
        )
        super().build(input_shape)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        return self.of_quarters(quarters(x), training)

    def of_quarters(self, seen: Any, training: bool | None = None) -> Any:
        """The gates, given the means of the map's quarters, [B, 2, 2, C]."""
        hidden = ops.relu(normed(self.hidden, self.bn, seen, training))
        scores = normed(self.score, None, ops.mean(hidden, axis=(1, 2)))
        z = ops.cast(scores, "float32")
        gates = ops.sigmoid(z) if self.function == "sigmoid" else ops.relu(ops.tanh(z))
        # In training there is no threshold that 1 must be below.
        return gates if training else ops.minimum(gates, LARGEST_SCORE)

    def get_config(self) -> dict[str, Any]:
        names = ("gates", "reduction", "function", "bias", "batch_norm")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def quarters(x: Tensor) -> Any:
    """Average pooling of [B, H, W, C] to [B, 2, 2, C]; halves of an odd side share its middle.

    One operation, which reads the map once. Means of slices read it three times, and took a third
    of the time of a large grid.
    """
    for axis in (1, 2):
        if x.shape[axis] == 1:  # both halves are all there is
            x = ops.repeat(x, 2, axis=axis)
    height, width = x.shape[1:3]
    window = ((height + 1) // 2, (width + 1) // 2)
    return ops.average_pool(x, window, (height // 2, width // 2), padding="valid")
