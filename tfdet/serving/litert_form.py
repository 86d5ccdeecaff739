"""LiteRT, once called TensorFlow Lite: one image at a time, for phones and boards."""

import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet import files, quiet
from tfdet.serving.formats import Piece, Runner

ENDING = ".tflite"


def write(
    piece: Piece,
    folder: pathlib.Path,
    precision: str,
    samples: Sequence[dict[str, np.ndarray]],
) -> None:
    """A piece as a LiteRT file, see `formats.Form.write`.

    In float16 the weights are stored so, and computed with in float32 where the processor has
    nothing else. In int8 a piece that is quantized takes and returns float32.
    """
    with tempfile.TemporaryDirectory() as folder_of_graph, quiet.no_stderr():
        tf.saved_model.save(
            tf.Module(), folder_of_graph, signatures={"serving_default": piece.function}
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(folder_of_graph)
        if precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        elif precision == "int8" and piece.is_quantized:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: iter(samples)
        content = converter.convert()
    files.write_bytes(folder / f"{piece.name}{ENDING}", content)


def load(name: str, folder: pathlib.Path, precision: str) -> Runner:
    """What runs a piece, see `formats.Form.load`."""
    from ai_edge_litert.interpreter import Interpreter

    with quiet.no_stderr():  # it announces its delegate
        interpreter: Any = Interpreter(
            model_path=str(folder / f"{name}{ENDING}"), num_threads=os.cpu_count()
        )
        interpreter.allocate_tensors()
        run = interpreter.get_signature_runner()
    taken = set(run.get_input_details())
    return lambda inputs: run(**{key: x for key, x in inputs.items() if key in taken})
