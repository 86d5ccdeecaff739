"""ONNX, run by ONNX Runtime: batches of images of any size."""

import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdet import files
from tfdet.serving.formats import Piece, Runner

ENDING = ".onnx"
# The first with all that is used here in the opset of ONNX Runtime 1.14 of 2023.
_OPSET = 18


def write(
    piece: Piece,
    folder: pathlib.Path,
    precision: str,
    samples: Sequence[dict[str, np.ndarray]],
) -> None:
    """A piece as an ONNX file, see `formats.Form.write`."""
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    signature = piece.function.input_signature
    graph, _ = tf2onnx.convert.from_function(
        piece.function, input_signature=list(signature), opset=_OPSET
    )
    files.write_bytes(folder / f"{piece.name}{ENDING}", graph.SerializeToString())


def load(name: str, folder: pathlib.Path, precision: str) -> Runner:
    """What runs a piece, see `formats.Form.load`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(
        str(folder / f"{name}{ENDING}"), options, providers=["CPUExecutionProvider"]
    )
    taken = {x.name for x in session.get_inputs()}
    names = [x.name for x in session.get_outputs()]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = session.run(names, {key: x for key, x in inputs.items() if key in taken})
        return dict(zip(names, found, strict=True))

    return run
