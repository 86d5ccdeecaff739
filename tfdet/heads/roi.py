"""The box head of Faster R-CNN with a feature pyramid: https://arxiv.org/abs/1612.03144."""

from typing import Any

import keras
from keras import ops

from tfdet.layers.composite import Composite
from tfdet.tensors import Tensor


@keras.saving.register_keras_serializable(package="tfdet")
class BoxHead(Composite):
    """Features of regions [B, N, h, w, C] to what stands there.

    Returns `{"class_logits": [B, N, num_classes + 1], "box_codes": [B, N, 4 * num_classes]}`: the
    last class is the background; the codes of a class are four neighbours.

    Args:
        num_classes: classes without background.
        hidden: width of the two dense layers.
    """

    def __init__(self, num_classes: int, hidden: int = 1024, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.hidden = hidden
        self.dense = [
            keras.layers.Dense(hidden, kernel_initializer="glorot_uniform", name=f"dense_{i}")
            for i in range(2)
        ]
        self.relu = keras.layers.ReLU(name="relu")
        self.class_dense = _prediction(num_classes + 1, 0.01, "class")
        self.box_dense = _prediction(4 * num_classes, 0.001, "box")

    def call(self, features: Tensor) -> dict[str, Tensor]:
        count, *cell = features.shape[1:]
        x = ops.reshape(features, (-1, count, cell[0] * cell[1] * cell[2]))
        for dense in self.dense:
            x = self.relu(dense(x))
        return {"class_logits": self.class_dense(x), "box_codes": self.box_dense(x)}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes, "hidden": self.hidden}


def _prediction(units: int, deviation: float, name: str) -> keras.layers.Dense:
    initializer = keras.initializers.RandomNormal(stddev=deviation)
    return keras.layers.Dense(units, kernel_initializer=initializer, name=name)
