"""Requests that TensorFlow Serving answers before it accepts others, so that the first is not slow.

TensorFlow Serving looks for them in `assets.extra/tf_serving_warmup_requests`: a TFRecord file of
`tensorflow.serving.PredictionLog`. Its package is not needed here: of the four messages only the
fields that are written are defined, with the numbers that its .proto files have for them.
"""

import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import tensor_pb2

from tfdet.detectors.base import Detector
from tfdet.serving.effort_inputs import NOT_GIVEN

FILE = "tf_serving_warmup_requests"
_FILE_OF_MESSAGES = "tfdet/prediction_log.proto"
_PACKAGE = "tensorflow.serving"
_BATCHES = (1, 2)


@functools.cache
def messages() -> dict[str, type]:
    """The classes of PredictionLog, PredictLog, PredictRequest and ModelSpec, by name.

    They live in a pool of their own: tensorflow-serving-api, where it is installed too, defines
    messages of the same names in the common one.
    """
    pool = descriptor_pool.DescriptorPool()
    _add_with_dependencies(pool, tensor_pb2.DESCRIPTOR)
    pool.Add(_definitions())
    names = ("PredictionLog", "PredictLog", "PredictRequest", "ModelSpec")
    found = (pool.FindMessageTypeByName(f"{_PACKAGE}.{name}") for name in names)
    classes = (message_factory.GetMessageClass(one) for one in found)
    return dict(zip(names, classes, strict=True))


def _add_with_dependencies(pool: descriptor_pool.DescriptorPool, file: Any) -> None:
    for one in file.dependencies:
        _add_with_dependencies(pool, one)
    definition = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(definition)
    pool.Add(definition)


def _definitions() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name=_FILE_OF_MESSAGES,
        package=_PACKAGE,
        syntax="proto3",
        dependency=[tensor_pb2.DESCRIPTOR.name],
    )
    message, string = "TYPE_MESSAGE", "TYPE_STRING"
    _add(file, "ModelSpec", ("name", 1, string, ""), ("signature_name", 3, string, ""))
    request = _add(file, "PredictRequest", ("model_spec", 1, message, "ModelSpec"))
    entry = request.nested_type.add(name="InputsEntry")  # as a map is stored
    entry.options.map_entry = True
    _add_field(entry, "key", 1, string, "")
    _add_field(entry, "value", 2, message, f".{tensor_pb2.TensorProto.DESCRIPTOR.full_name}")
    inputs = _add_field(request, "inputs", 2, message, f".{_PACKAGE}.PredictRequest.InputsEntry")
    inputs.label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    _add(file, "PredictLog", ("request", 1, message, "PredictRequest"))
    _add(file, "PredictionLog", ("predict_log", 6, message, "PredictLog"))
    return file


def _add(file: Any, name: str, *fields: tuple[str, int, str, str]) -> Any:
    message = file.message_type.add(name=name)
    for field, number, kind, of in fields:
        _add_field(message, field, number, kind, of and f".{_PACKAGE}.{of}")
    return message


def _add_field(message: Any, name: str, number: int, kind: str, of: str) -> Any:
    field = message.field.add(name=name, number=number)
    field.type = getattr(descriptor_pb2.FieldDescriptorProto, kind)
    field.label = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    if of:
        field.type_name = of
    return field


def write(model: Detector, folder: pathlib.Path, is_calibrated: bool) -> None:
    """Writes the requests for a SavedModel of `model` into `folder`.

    Batches of one and of two images go to each serving signature; of a dynamic detector with the
    threshold of the least and of the largest effort, so that all of its parts have run.
    """
    with tf.io.TFRecordWriter(str(folder / FILE)) as file:
        for signature, inputs in _requests(model, is_calibrated):
            log = messages()["PredictionLog"]()
            request = log.predict_log.request
            request.model_spec.name = model.name
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                # TensorFlow's class is of another pool; what both write is the same.
                request.inputs[name].ParseFromString(value.SerializeToString())
            file.write(log.SerializeToString())


_Inputs = dict[str, tensor_pb2.TensorProto]


def _requests(model: Detector, is_calibrated: bool) -> Iterator[tuple[str, _Inputs]]:
    """Signatures and their inputs."""
    at: list[_Inputs] = [{}]
    if model.is_dynamic:
        effort = {"effort": tf.make_tensor_proto(NOT_GIVEN, tf.float32)} if is_calibrated else {}
        ends = (tf.make_tensor_proto(x, tf.float32) for x in model.threshold_ends)
        at = [{"threshold": end, **effort} for end in ends]
    encoded = tf.io.encode_png(np.zeros((*model.image_size, 3), np.uint8)).numpy()
    for batch in _BATCHES:
        shape = (batch, *model.image_size, 3)
        inputs: dict[str, _Inputs] = {
            "serving_default": {"images": _filled(tf.uint8, shape, int_val=[0])},
            "serving_encoded": {"encoded": tf.make_tensor_proto([encoded] * batch, tf.string)},
            "serving_fitted": {
                "fitted": _filled(tf.float32, shape, float_val=[0.0]),
                "scale": _filled(tf.float32, (batch,), float_val=[1.0]),
                "size": tf.make_tensor_proto([model.image_size] * batch, tf.int32),
            },
        }
        for signature, values in inputs.items():
            for chosen in at:
                yield signature, {**values, **chosen}


def _filled(dtype: tf.DType, shape: tuple[int, ...], **value: Any) -> tensor_pb2.TensorProto:
    """A tensor with one value in all places, which is stored once."""
    return tensor_pb2.TensorProto(
        dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(shape).as_proto(), **value
    )
