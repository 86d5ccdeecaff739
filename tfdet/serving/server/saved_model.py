"""What a SavedModel's definition holds: its signatures, and the metadata that servers answer."""

import inspect
import pathlib
import re
from typing import Any

import numpy as np
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from tfdet.errors import UserError
from tfdet.serving.server.requests import InputSpec

_DTYPES: dict[int, np.dtype] = {
    types_pb2.DT_UINT8: np.dtype(np.uint8),
    types_pb2.DT_FLOAT: np.dtype(np.float32),
    types_pb2.DT_INT32: np.dtype(np.int32),
    types_pb2.DT_STRING: np.dtype(object),
}
# How versions of protobuf call the option that also prints zeros and empty lists.
_PRINTS_DEFAULTS = next(
    name
    for name in ("always_print_fields_with_no_presence", "including_default_value_fields")
    if name in inspect.signature(json_format.MessageToDict).parameters
)


def find_version(folder: str | pathlib.Path) -> tuple[pathlib.Path, int]:
    """The SavedModel that a folder stands for, and its version.

    As TensorFlow Serving has it: of folders with numbers for names, each a SavedModel, the one with
    the highest; a SavedModel itself is taken too, with the version that its own folder's name has,
    or 1.
    """
    path = pathlib.Path(folder)
    if (path / "saved_model.pb").is_file():
        name = path.resolve().name
        return path, int(name) if re.fullmatch(r"[0-9]{1,18}", name) else 1
    versions = {
        int(graph.parent.name): graph.parent
        for graph in path.glob("*/saved_model.pb")
        if re.fullmatch(r"[0-9]{1,18}", graph.parent.name)
    }
    if not versions:
        found = "holds neither saved_model.pb nor a version" if path.is_dir() else "is not there"
        raise UserError(
            f"{path} {found}; give the folder that tfdet-export wrote, or a folder of such "
            "folders named 1, 2, ..."
        )
    return versions[max(versions)], max(versions)


def read_signatures(path: pathlib.Path) -> dict[str, meta_graph_pb2.SignatureDef]:
    """The signatures of the SavedModel in a folder, by name."""
    file = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    graph = next(one for one in file.meta_graphs if "serve" in one.meta_info_def.tags)
    return dict(graph.signature_def)


def input_specs(signature: meta_graph_pb2.SignatureDef) -> dict[str, InputSpec]:
    """What a signature takes, by name."""
    return {
        name: InputSpec(
            _DTYPES[info.dtype],
            _shape(info.tensor_shape),
            is_optional=name in signature.defaults,
        )
        for name, info in signature.inputs.items()
    }


def _shape(shape: Any) -> tuple[int | None, ...] | None:
    if shape.unknown_rank:
        return None
    return tuple(None if axis.size < 0 else axis.size for axis in shape.dim)


def status_json(version: int) -> dict[str, Any]:
    """`GetModelStatusResponse` of a model with one version, which is served."""
    status = {"error_code": "OK", "error_message": ""}
    one = {"version": str(version), "state": "AVAILABLE", "status": status}
    return {"model_version_status": [one]}


def metadata_json(
    name: str, version: int, signatures: dict[str, meta_graph_pb2.SignatureDef]
) -> dict[str, Any]:
    """`GetModelMetadataResponse` in TensorFlow Serving's JSON."""
    options = {_PRINTS_DEFAULTS: True, "preserving_proto_field_name": True}
    definitions = {
        key: json_format.MessageToDict(value, **options) for key, value in signatures.items()
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": definitions}},
    }
