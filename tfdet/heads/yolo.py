"""YOLOv7's head: a 1x1 convolution per level, between two implicit vectors."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from tfdet.layers.composite import Composite
from tfdet.layers.convolution import Conv2D
from tfdet.layers.implicit import ImplicitAdd, ImplicitMultiply
from tfdet.layers.initializers import uniform_bias, uniform_kernel
from tfdet.tensors import Tensor

# At first a head finds 8 objects in an image of 640 pixels, whatever the true size, and the
# classes are as probable as if 0.6 of an object fell to each of them.
_PRIOR_OBJECTS = 8
_PRIOR_IMAGE_SIDE = 640
_PRIOR_CLASS = 0.6


@keras.saving.register_keras_serializable(package="tfdet")
class YoloHead(Composite):
    """Maps {"P3": [B, H/8, W/8, C], ...} to raw predictions, a row per anchor.

    Returns {"box_codes": [B, K, 4], "object_logits": [B, K], "class_logits": [B, K, classes]}; rows
    are ordered by level, anchor, y and x.

    Args:
        num_classes: classes without background.
        strides: pixels per cell of each map, in the order of the maps.
        anchors_per_cell: predictions of a cell.
        implicit: shift the maps and scale the predictions by learned vectors.
        merged: those vectors are merged into the convolutions, for inference.
    """

    def __init__(
        self,
        num_classes: int,
        strides: tuple[int, ...] = (8, 16, 32),
        anchors_per_cell: int = 3,
        implicit: bool = True,
        merged: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.strides = tuple(strides)
        self.anchors_per_cell = anchors_per_cell
        self.implicit = implicit
        self.merged = merged
        self.predictors = [
            Predictor(
                num_classes, stride, anchors_per_cell, implicit, merged, name=f"stride_{stride}"
            )
            for stride in self.strides
        ]

    def call(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        rows = [
            self._rows(predict(x))
            for predict, x in zip(self.predictors, maps.values(), strict=True)
        ]
        rows = ops.concatenate(rows, axis=1)  # [B, K, 5 + classes]
        return {
            "box_codes": rows[..., :4],
            "object_logits": rows[..., 4],
            "class_logits": rows[..., 5:],
        }

    def _rows(self, x: Tensor) -> Tensor:
        cells, width = x.shape[1] * x.shape[2], x.shape[3] // self.anchors_per_cell
        x = ops.reshape(x, (-1, cells, self.anchors_per_cell, width))
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, x.shape[1] * x.shape[2], width))

    def get_config(self) -> dict[str, Any]:
        names = ("num_classes", "strides", "anchors_per_cell", "implicit", "merged")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


# Weights files name the layers of a list by their class: it cannot be renamed.
@keras.saving.register_keras_serializable(package="tfdet")
class Predictor(Composite):
    """A map [B, H, W, C] to [B, H, W, anchors * (5 + classes)]: per anchor box, object, classes.

    Args:
        num_classes, anchors_per_cell, implicit, merged: see `YoloHead`.
        stride: pixels per cell.
    """

    def __init__(
        self,
        num_classes: int,
        stride: int,
        anchors_per_cell: int = 3,
        implicit: bool = True,
        merged: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.stride = stride
        self.anchors_per_cell = anchors_per_cell
        self.implicit = implicit
        self.merged = merged
        has_vectors = implicit and not merged
        self.add = ImplicitAdd(name="add") if has_vectors else None
        self.multiply = ImplicitMultiply(name="multiply") if has_vectors else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[-1]
        self.conv = Conv2D(
            self.anchors_per_cell * (5 + self.num_classes),
            1,
            kernel_initializer=uniform_kernel(),
            bias_initializer=lambda shape, dtype: (
                uniform_bias(channels)(shape, dtype) + ops.cast(self._prior(), dtype)
            ),
            name="conv",
        )
        super().build(input_shape)

    def _prior(self) -> np.ndarray:
        """What the bias starts around."""
        bias = np.zeros((self.anchors_per_cell, 5 + self.num_classes))
        bias[:, 4] = math.log(_PRIOR_OBJECTS / (_PRIOR_IMAGE_SIDE / self.stride) ** 2)
        bias[:, 5:] = math.log(_PRIOR_CLASS / (self.num_classes - 0.99))
        return bias.ravel()

    def call(self, x: Tensor) -> Tensor:
        if self.add is None:
            return self.conv(x)
        return self.multiply(self.conv(self.add(x)))

    def merged_weights(self) -> list[np.ndarray]:
        """Kernel and bias of the merged form."""
        kernel, bias = (np.asarray(v, np.float64) for v in (self.conv.kernel, self.conv.bias))
        if self.add is None:
            return [kernel, bias]
        scale = np.asarray(self.multiply.implicit, np.float64)
        bias += np.asarray(self.add.implicit, np.float64) @ kernel[0, 0]
        return [kernel * scale, bias * scale]

    def get_config(self) -> dict[str, Any]:
        names = ("num_classes", "stride", "anchors_per_cell", "implicit", "merged")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
