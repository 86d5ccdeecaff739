"""The graphs that are served, around one network: plain images, and encoded ones."""

import dataclasses
import inspect
import json
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfdet import records
from tfdet.detectors.base import Detector, to_original
from tfdet.detectors.calibration import Calibration
from tfdet.ops.as_written import as_written
from tfdet.ops.letterbox import letterbox
from tfdet.serving import decode, image_status
from tfdet.serving.claimed_size import claims_too_much
from tfdet.serving.effort_inputs import EffortInputs
from tfdet.serving.network import Network

# An image on its canvas, the scale and the (height, width) it had, and its status.
_Fitted = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Canvas:
    """What images are fitted into: a size (height, width) and the colour around them."""

    size: tuple[int, int]
    pad_value: tuple[float, float, float]


def images_function(
    network: Network, canvas: Canvas, efforts: EffortInputs | None = None
) -> tf.types.experimental.GenericFunction:
    """uint8 images [B, H, W, 3] of any batch and image size to detections in their pixels.

    Of a dynamic detector also of what `efforts` has.
    """

    def detect(images: tf.Tensor, *at: tf.Tensor) -> dict[str, tf.Tensor]:
        shape = tf.shape(images)
        is_rgb = shape[3] == 3
        has_pixels = (shape[1] > 0) & (shape[2] > 0)
        wanted = "images must be RGB, [B, H, W, 3], of at least one pixel; their shape is"
        with tf.control_dependencies([tf.debugging.Assert(is_rgb & has_pixels, [wanted, shape])]):
            images = tf.ensure_shape(tf.identity(images), [None, None, None, 3])
        fitted, scale = letterbox(images, canvas.size, canvas.pad_value)
        return to_original(network(fitted, *at), scale, (shape[1], shape[2]))

    # Not 3 channels by its type: grey images would then fail somewhere inside, in other words.
    spec = tf.TensorSpec([None, None, None, None], tf.uint8, name="images")
    return _served(detect, (spec,), efforts)


def fitted_function(
    network: Network, canvas: Canvas, efforts: EffortInputs | None = None
) -> tf.types.experimental.GenericFunction:
    """Images that `ops.letterbox` has fitted, with their scales and sizes, to detections.

    For programs that prepare images by themselves, each of its own size: the canvas is float32
    [B, *canvas.size, 3] with the image in its upper left corner and `canvas.pad_value` around it.
    """
    specs = (
        tf.TensorSpec([None, *canvas.size, 3], tf.float32, name="fitted"),
        tf.TensorSpec([None], tf.float32, name="scale"),
        tf.TensorSpec([None, 2], tf.int32, name="size"),
    )

    def detect(
        fitted: tf.Tensor, scale: tf.Tensor, size: tf.Tensor, *at: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        return to_original(network(fitted, *at), scale, (size[:, 0], size[:, 1]))

    return _served(detect, specs, efforts)


def encoded_function(
    network: Network, canvas: Canvas, efforts: EffortInputs | None = None
) -> tf.types.experimental.GenericFunction:
    """Encoded images [B], each of its own size, to detections in pixels of the upright image.

    An image that cannot be decoded has no detections, False in `is_readable` [B] and the reason in
    `status` [B], see `image_status`; the others of its batch are as they would be without it.
    """

    def fit(encoded: tf.Tensor) -> _Fitted:
        image = decode.decode_upright(encoded)
        fitted, scale = letterbox(image, canvas.size, canvas.pad_value)
        return fitted, scale, tf.shape(image)[:2], tf.constant(image_status.DETECTED)

    def fit_or_blank(encoded: tf.Tensor) -> _Fitted:
        # Graphs catch no errors, but data sets leave elements out whose function fails.
        colour = tf.constant(canvas.pad_value, tf.float32)
        blank = tf.broadcast_to(colour, [*canvas.size, 3])
        one = tf.data.Dataset.from_tensors(encoded)
        too_large = one.map(claims_too_much).ignore_errors().filter(lambda is_so: is_so)

        def instead(status: int) -> _Fitted:
            return blank, tf.constant(1.0), tf.constant([1, 1]), tf.constant(status)

        image = one.map(fit).ignore_errors()
        image = image.concatenate(too_large.map(lambda _: instead(image_status.TOO_LARGE)))
        image = image.concatenate(tf.data.Dataset.from_tensors(instead(image_status.DAMAGED)))
        return image.take(1).get_single_element()

    def detect(encoded: tf.Tensor, *at: tf.Tensor) -> dict[str, tf.Tensor]:
        fitted, scale, size, status = tf.map_fn(
            fit_or_blank,
            encoded,
            fn_output_signature=(
                tf.TensorSpec([*canvas.size, 3], tf.float32),
                tf.TensorSpec([], tf.float32),
                tf.TensorSpec([2], tf.int32),
                tf.TensorSpec([], tf.int32),
            ),
        )
        found = to_original(network(fitted, *at), scale, (size[:, 0], size[:, 1]))
        is_readable = status == image_status.DETECTED
        return {**_only_where(is_readable, found), "is_readable": is_readable, "status": status}

    return _served(detect, (tf.TensorSpec([None], tf.string, name="encoded"),), efforts)


def _only_where(is_readable: tf.Tensor, found: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Detections without those of the other images; what they report beside them stays."""
    empty = {"boxes": 0.0, "scores": 0.0, "labels": -1, "count": 0, "masks": 0.0}

    def kept(name: str, values: tf.Tensor) -> tf.Tensor:
        if name not in empty:
            return values
        rows = tf.reshape(is_readable, [-1, *[1] * (len(values.shape) - 1)])
        return tf.where(rows, values, tf.cast(empty[name], values.dtype))

    return {name: kept(name, values) for name, values in found.items()}


def metadata_function(
    model: Detector, calibration: Calibration | None = None
) -> tf.types.experimental.GenericFunction:
    """No input to what clients must know: class names and ids by label, the canvas (size, colour).

    Of a dynamic detector also its threshold and the calibration as JSON, "" where there is none;
    of one with a `route_map` also that, as JSON under the name "grid".
    """
    table = json.dumps(records.to_dict(calibration)) if calibration else ""
    more = {"threshold": model.threshold, "calibration": table} if model.is_dynamic else {}
    if model.route_map is not None:
        more["grid"] = json.dumps(records.to_dict(model.route_map))

    @tf.function(input_signature=[], autograph=False)
    def metadata() -> dict[str, tf.Tensor]:
        return {
            "class_names": tf.constant(list(model.class_names), tf.string),
            "class_ids": tf.constant(list(model.class_ids), tf.int64),
            "image_size": tf.constant(list(model.image_size), tf.int32),
            "pad_value": tf.constant(list(model.pad_value), tf.float32),
            **{name: tf.constant(value) for name, value in more.items()},
        }

    return metadata


def _served(
    detect: Callable[..., dict[str, tf.Tensor]],
    inputs: Sequence[tf.TensorSpec],
    efforts: EffortInputs | None,
) -> tf.types.experimental.GenericFunction:
    """`detect(*inputs)`, of a dynamic detector `detect(*inputs, threshold)`, as a signature."""
    detect = as_written(detect)

    def serve(*given: tf.Tensor) -> dict[str, tf.Tensor]:
        images, chosen = given[: len(inputs)], given[len(inputs) :]
        return detect(*images, *([efforts.chosen(images[0], *chosen)] if efforts else []))

    # Signatures know arguments that have a name each. Defaults go into their definition, where
    # TensorFlow Serving looks for them.
    specs = [*inputs, *(efforts.specs if efforts else ())]
    defaults = efforts.defaults if efforts else {}
    serve.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                spec.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=defaults.get(spec.name, inspect.Parameter.empty),
            )
            for spec in specs
        ]
    )
    return tf.function(serve, input_signature=specs, autograph=False)
