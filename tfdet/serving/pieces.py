"""A detector as the functions that become the files of an export."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfdet.detectors.base import Detector, to_original
from tfdet.errors import UserError
from tfdet.ops import pack_native, portable
from tfdet.ops.letterbox import letterbox
from tfdet.serving import network as networks
from tfdet.serving.formats import Form, Piece

WHOLE = "detector"
_THRESHOLD = tf.TensorSpec([], tf.float32, name="threshold")


def pieces_of(model: Detector, form: Form, precision: str) -> list[Piece]:
    """The pieces of a detector, in the order in which they run.

    One does all where it can: decoding, suppression and the choice of what is computed are in it. A
    dynamic detector's also takes the `threshold`. Its images are float32, RGB, 0-255,

    - `images` [B, H, W, 3] of any batch and size, with detections in their pixels;
    - where `takes_canvas`, `canvas` [1, *image_size, 3], with detections in its pixels.

    In int8 a form that is fixed has two pieces: the network, and what is made of its predictions
    in float32. Boxes in eighths of a bit of an image's side would be useless.
    """
    model = model.for_inference()
    with portable.operations(form.has_nesting), pack_native.allowed(False):
        if form.is_fixed and precision == "int8":
            return _halves(model, form)
        whole = _of_canvas if takes_canvas(model, form) else _of_images
        return [Piece(WHOLE, whole(model, form))]


def takes_canvas(model: Detector, form: Form) -> bool:
    """Whether the export takes one fitted image at a time.

    Where images take routes through a grid, they do so in a loop with conditions in conditions:
    OpenVINO opens the wrong ones then, and ONNX's converter fails.
    """
    return form.is_fixed or model.route_map is not None


def _of_images(model: Detector, form: Form) -> Any:
    network = networks.frozen_network(model)

    def detect(images: tf.Tensor, *at: tf.Tensor) -> dict[str, tf.Tensor]:
        # Here, so that an input of bytes is exact too.
        shape = tf.shape(images)
        fitted, scale = letterbox(images, model.image_size, model.pad_value)
        return to_original(network(fitted, *at), scale, (shape[1], shape[2]))

    spec = tf.TensorSpec([None, None, None, 3], tf.float32, name="images")
    return _with_threshold(detect, spec, model, form)


def _of_canvas(model: Detector, form: Form) -> Any:
    network = networks.frozen_network(model, batch=1)
    return _with_threshold(network, _canvas(model), model, form)


def _with_threshold(
    detect: Callable[..., dict[str, tf.Tensor]], spec: tf.TensorSpec, model: Detector, form: Form
) -> Any:
    """`detect(x)`, or `detect(x, threshold)`, with an input that has no default: those are lost."""
    return _portable(detect, [spec, _THRESHOLD] if model.is_dynamic else [spec], form)


def _portable(function: Callable[..., Any], specs: list[tf.TensorSpec], form: Form) -> Any:
    """`function` as a graph of what the form has, whenever that graph is made."""

    def run(*inputs: tf.Tensor) -> Any:
        with portable.operations(form.has_nesting):
            return function(*inputs)

    return tf.function(run, input_signature=specs, autograph=False)


def _canvas(model: Detector) -> tf.TensorSpec:
    return tf.TensorSpec([1, *model.image_size, 3], tf.float32, name="canvas")


def _halves(model: Detector, form: Form) -> list[Piece]:
    if model.is_dynamic:
        raise UserError(
            f"{model.name} is not written in int8 for {form.name}: ranges are not measured in "
            "branches. Take float32 or float16, or openvino in int8"
        )
    before, after = model.halves
    network = networks.frozen(before, _canvas(model))
    specs = tf.nest.flatten(network.outputs)
    decode = networks.frozen(after, network.outputs)
    names = [f"value_{i}" for i in range(len(specs))]

    def run(canvas: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(names, tf.nest.flatten(network(canvas)), strict=True))

    given = [tf.TensorSpec(x.shape, x.dtype, name=y) for x, y in zip(specs, names, strict=True)]
    last = _portable(
        lambda *values: decode(tf.nest.pack_sequence_as(network.outputs, values)), given, form
    )
    return [
        Piece("network", _portable(run, [_canvas(model)], form)),
        Piece("decoding", last, is_quantized=False),
    ]
