"""OpenVINO: batches of images of any size on Intel's and other x86 or ARM processors."""

import contextlib
import io
import logging
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet import quiet
from tfdet.serving.formats import Piece, Runner

ENDING = ".xml"  # beside it lie the weights, ".bin"
# What multiplications are done in. Left to itself OpenVINO takes bfloat16 where the processor has
# it, which moves scores by a hundredth.
_HINTS = {"float32": "f32", "int8": "f32", "bfloat16": "bf16"}
# What is quantized. Additions and activations between convolutions stay in float: ranges of sums
# are wide, and the decoding of boxes is made of the same operations.
_QUANTIZED = ("Convolution", "GroupConvolution", "MatMul")


def write(
    piece: Piece,
    folder: pathlib.Path,
    precision: str,
    samples: Sequence[dict[str, np.ndarray]],
) -> None:
    """A piece as an OpenVINO model, see `formats.Form.write`."""
    import openvino

    with tempfile.TemporaryDirectory() as folder_of_graph:
        tf.saved_model.save(
            tf.Module(), folder_of_graph, signatures={"serving_default": piece.function}
        )
        # Not `convert_model`, which reports to its makers that it was used.
        model = openvino.Core().read_model(folder_of_graph)
    _select_fast(model)
    if precision == "int8" and piece.is_quantized:
        model = _quantized(model, samples)
    openvino.save_model(model, folder / f"{piece.name}{ENDING}", compress_to_fp16=False)


def _select_fast(model: Any) -> None:
    """Lets equal values of a top-k come in any order, in branches and loops too.

    TensorFlow's keep their order. OpenVINO then compares each value with all k: ten seconds where
    EfficientDet-D0 selects 5,000 of 450,000 scores, a twentieth of one without.
    """
    from openvino import opset11

    for node in model.get_ops():
        kind = node.get_type_name()
        if kind == "If":
            for branch in range(2):
                _select_fast(node.get_function(branch))
        elif kind == "Loop":
            _select_fast(node.get_function())
        elif kind == "TopK":
            attributes = {**node.get_attributes(), "stable": False}
            _replace(node, opset11.topk(*node.input_values(), **attributes))


def _replace(node: Any, new: Any) -> None:
    for old_output, output in zip(node.outputs(), new.outputs(), strict=True):
        for target in old_output.get_target_inputs():
            target.replace_source_output(output)


def _quantized(model: Any, samples: Sequence[dict[str, np.ndarray]]) -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # without it NNCF reports to its makers
    with quiet.no_stderr(), contextlib.redirect_stdout(io.StringIO()):
        import nncf

        nncf.set_log_level(logging.ERROR)  # a line for each operation that is left alone
        kinds = {op.get_type_name() for op in model.get_ops()} - set(_QUANTIZED)
        scope = nncf.IgnoredScope(types=sorted(kinds), validate=False)
        return nncf.quantize(
            model,
            nncf.Dataset(list(samples)),
            subset_size=len(samples),
            ignored_scope=scope,
        )


def load(name: str, folder: pathlib.Path, precision: str) -> Runner:
    """What runs a piece, see `formats.Form.load`."""
    import openvino

    compiled = openvino.Core().compile_model(
        folder / f"{name}{ENDING}",
        "CPU",
        {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"},
    )
    taken = {x.get_any_name() for x in compiled.inputs}
    names = [x.get_any_name() for x in compiled.outputs]
    request = compiled.create_infer_request()

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = request.infer({key: x for key, x in inputs.items() if key in taken})
        # Copies: the arrays are those of the request, and the next call overwrites them.
        return {name: np.array(found[i]) for i, name in enumerate(names)}

    return run
