"""Detections and errors to the JSON of TensorFlow Serving's REST API."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def predictions(
    rows: Sequence[Mapping[str, np.ndarray]],
    names: Sequence[str],
    is_row: bool,
    errors: Mapping[int, str],
) -> bytes:
    """The answer to a `:predict` request.

    Args:
        rows: of each image its outputs, without the axis of the batch.
        names: of the outputs, which also say what an answer without images has.
        is_row: row form, a list with an object for each image; else an object of lists.
        errors: why images, by their number, were not looked at.
    """
    listed = [{name: _values(row[name]) for name in names} for row in rows]
    answer: dict[str, Any]
    if is_row:
        answer = {"predictions": listed}
    else:
        answer = {"outputs": {name: [one[name] for one in listed] for name in names}}
    if errors:
        answer["errors"] = [{"image": i, "error": text} for i, text in errors.items()]
    return to_json(answer)


def error(message: str) -> bytes:
    """The answer to a request that is not served."""
    return to_json({"error": message})


def to_json(value: Any) -> bytes:
    """JSON in ASCII, so that no text of a request can break the encoding of an answer."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _values(array: np.ndarray) -> Any:
    if array.dtype.kind != "f":
        return array.tolist()
    # 0.2 and not 0.20000000298: the shortest text that gives the same float32.
    flat = list(map(float, map(str, array.ravel())))
    return _nested(flat, array.shape)


def _nested(flat: list[float], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    for size in shape[:0:-1]:
        flat = [flat[i : i + size] for i in range(0, len(flat), size)]  # type: ignore[misc]
    return flat
