"""Plain pixels to what a backbone expects."""

from typing import Any, Literal

import keras
from keras import ops

from tfdet.tensors import Tensor

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

# Mean and standard deviation of the pixels 0-255, by name. The weights of Detectron's family and of
# Keras's ResNets ("caffe") want the channels in the order blue, green, red; here they are red,
# green, blue for every model, and whoever imports such weights turns the first convolution round.
PIXELS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "lite": ((127.0,) * 3, (128.0,) * 3),
    "unit": ((0.0,) * 3, (255.0,) * 3),
    "detectron": ((122.7717, 115.9465, 102.9801), (1.0,) * 3),
    "signed": ((127.5,) * 3, (127.5,) * 3),
    "caffe": ((123.68, 116.779, 103.939), (1.0,) * 3),
}
# Keys that detectors with any backbone take.
Pixels = Literal["detectron", "imagenet", "lite", "caffe", "signed"]


@keras.saving.register_keras_serializable(package="tfdet")
class ImageNormalization(keras.layers.Layer):
    """`(image - mean) / std` per channel, for images 0–255 of any dtype.

    Computed in float32 and cast to the layer's compute dtype at the end, since pixels in float16
    lose their last bits.
    """

    def __init__(
        self,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.built = True

    def call(self, images: Tensor) -> Tensor:
        images = ops.cast(images, "float32")
        return ops.cast((images - self._row(self.mean)) / self._row(self.std), self.compute_dtype)

    def compute_output_spec(self, images: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor(images.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": self.mean, "std": self.std}

    def _row(self, values: tuple[float, float, float]) -> Any:
        return ops.convert_to_tensor(values, dtype="float32")
