"""The dense head of RetinaNet and EfficientDet: one tower shared by all levels."""

from typing import Any

import keras
from keras import ops

from tfdet.layers.activation import activation as get_activation
from tfdet.layers.batch_norm import Kind, batch_norm
from tfdet.layers.composite import Composite, checkpointed
from tfdet.layers.conv3x3 import conv3x3
from tfdet.layers.initializers import RARE_CLASS_BIAS
from tfdet.tensors import Tensor

_SEPARABLE_INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal"},
}
_DENSE_INITIALIZER = {"class_name": "RandomNormal", "config": {"stddev": 0.01}}


@keras.saving.register_keras_serializable(package="tfdet")
class RetinaTower(Composite):
    """Maps {"P3": [B, H3, W3, C], ...} to predictions [B, K, outputs].

    K counts the anchors in the order level, row, column, anchor of the cell. Convolutions are
    shared by all levels; each level has its own batch norms.

    Args:
        outputs: numbers predicted per anchor: the classes, or 4 box codes.
        anchors_per_cell: anchors at each position of a map.
        prefix: "class" or "box", the first part of the names of the layers. The predictor of a
            "class" tower starts with a bias that gives every class the probability 0.01.
        filters: width of the tower.
        repeats: convolutions before the predictor.
        activation: name of the activation.
        batch_norm: kind of batch norm.
        separable_conv: separable instead of dense convolutions.
        drop_rate: where not 0, all convolutions but the first have a residual whose branch is
            dropped with this probability in training.
        gradient_checkpointing: compute each convolution again for its gradient.
    """

    def __init__(
        self,
        outputs: int,
        anchors_per_cell: int = 9,
        prefix: str = "class",
        filters: int = 64,
        repeats: int = 3,
        activation: str = "swish",
        batch_norm: Kind = "plain",
        separable_conv: bool = True,
        drop_rate: float = 0.0,
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.outputs = outputs
        self.anchors_per_cell = anchors_per_cell
        self.prefix = prefix
        self.filters = filters
        self.repeats = repeats
        self.activation = activation
        self.batch_norm = batch_norm
        self.separable_conv = separable_conv
        self.drop_rate = drop_rate
        self.gradient_checkpointing = gradient_checkpointing
        self.act = get_activation(activation)
        self.convs = [self._conv(filters, f"{prefix}-{i}") for i in range(repeats)]
        self.drop = keras.layers.Dropout(drop_rate, (None, 1, 1, 1)) if drop_rate else None
        bias = RARE_CLASS_BIAS if prefix == "class" else 0.0
        self.predictor = self._conv(
            outputs * anchors_per_cell,
            f"{prefix}-predict",
            bias_initializer=keras.initializers.Constant(bias),
        )

    def build(self, input_shape: dict[str, tuple[int | None, ...]]) -> None:
        self.bns = [
            {
                level: batch_norm(self.batch_norm, name=f"{self.prefix}-{i}-bn-{level[1:]}")
                for level in input_shape
            }
            for i in range(self.repeats)
        ]
        super().build(input_shape)

    def call(self, features: dict[str, Tensor], training: bool | None = None) -> Tensor:
        predictions = []
        for level, x in features.items():
            for i in range(self.repeats):
                x = self._unit(i, level, x, training)
            x = self.predictor(x)
            rows = x.shape[1] * x.shape[2] * self.anchors_per_cell
            predictions.append(ops.reshape(x, (-1, rows, self.outputs)))
        return ops.concatenate(predictions, axis=1)

    def _unit(self, i: int, level: str, x: Tensor, training: bool | None) -> Any:
        def run(x: Tensor) -> Any:
            return self.act(self.bns[i][level](self.convs[i](x), training=training))

        y = checkpointed(run, x) if self.gradient_checkpointing and training else run(x)
        if self.drop is None or i == 0:
            return y
        return x + self.drop(y, training=training)

    def _conv(self, filters: int, name: str, **kwargs: Any) -> keras.layers.Layer:
        if self.separable_conv:
            kwargs["depthwise_initializer"] = _SEPARABLE_INITIALIZER
            kwargs["pointwise_initializer"] = _SEPARABLE_INITIALIZER
        else:
            kwargs["kernel_initializer"] = _DENSE_INITIALIZER
        return conv3x3(filters, self.separable_conv, use_bias=True, name=name, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "outputs": self.outputs,
            "anchors_per_cell": self.anchors_per_cell,
            "prefix": self.prefix,
            "filters": self.filters,
            "repeats": self.repeats,
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "separable_conv": self.separable_conv,
            "drop_rate": self.drop_rate,
            "gradient_checkpointing": self.gradient_checkpointing,
        }
