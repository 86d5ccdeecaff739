"""The graphs that are served, around one network: plain images, and encoded ones."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfdet.detectors.base import to_original
from tfdet.ops.letterbox import letterbox
from tfdet.serving import decode

# Detections as they leave the network, in the order in which TensorFlow flattens a dict.
NAMES = ("boxes", "count", "labels", "scores")

Network = Callable[[tf.Tensor], dict[str, tf.Tensor]]


@dataclasses.dataclass(frozen=True)
class Canvas:
    """What images are fitted into: a size (height, width) and the colour around them."""

    size: tuple[int, int]
    pad_value: tuple[float, float, float]


def network_function(model: Any) -> tf.types.experimental.GenericFunction:
    """The part that costs time: canvas float32 [B, h, w, 3] to detections in its pixels."""

    @tf.function(input_signature=[tf.TensorSpec([None, *model.image_size, 3], tf.float32)])
    def network(canvas):
        return model.decode(model(canvas, training=False), model.image_size)

    return network


def images_function(network: Network, canvas: Canvas) -> tf.types.experimental.GenericFunction:
    """uint8 images [B, H, W, 3] of any batch and image size to detections in their pixels."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def detect(images):
        fitted, scale = letterbox(images, canvas.size, canvas.pad_value)
        size = tf.shape(images)
        return to_original(_run(network, fitted), scale, (size[1], size[2]))

    return detect


def encoded_function(network: Network, canvas: Canvas) -> tf.types.experimental.GenericFunction:
    """Encoded images [B], each of its own size, to detections in pixels of the upright image."""

    def fit(encoded):
        image = decode.decode_upright(encoded)
        fitted, scale = letterbox(image, canvas.size, canvas.pad_value)
        return fitted, scale, tf.shape(image)[:2]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="encoded")])
    def detect(encoded):
        fitted, scale, size = tf.map_fn(
            fit,
            encoded,
            fn_output_signature=(
                tf.TensorSpec([*canvas.size, 3], tf.float32),
                tf.TensorSpec([], tf.float32),
                tf.TensorSpec([2], tf.int32),
            ),
        )
        return to_original(_run(network, fitted), scale, (size[:, 0], size[:, 1]))

    return detect


def metadata_function(model: Any) -> tf.types.experimental.GenericFunction:
    """No input to what a client must know: class names and ids by label, size of the canvas."""

    @tf.function(input_signature=[])
    def metadata():
        return {
            "class_names": tf.constant(list(model.class_names), tf.string),
            "class_ids": tf.constant(list(model.class_ids), tf.int64),
            "image_size": tf.constant(list(model.image_size), tf.int32),
        }

    return metadata


def _run(network: Network, canvas: tf.Tensor) -> dict[str, tf.Tensor]:
    """Runs the network; an empty batch gets an image that is taken away again."""
    # Batch norm that Grappler fuses with a convolution fails on a batch of none.
    batch = tf.shape(canvas)[0]
    one_if_empty = tf.cast(batch == 0, tf.int32)
    canvas = tf.pad(canvas, [[0, one_if_empty], [0, 0], [0, 0], [0, 0]])
    return {name: values[:batch] for name, values in network(canvas).items()}
