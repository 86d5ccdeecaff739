"""Bodies of TensorFlow Serving's REST API to arrays: row and column form, base64, data types.

A value must be what the signature asks for: no string is taken for a number, no text is ever a path
or an address.
"""

import base64
import binascii
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfdet.serving.server.refusal import invalid

# The signature that TensorFlow Serving runs where a request names none.
DEFAULT_SIGNATURE = "serving_default"
_NUMBERS = {"f": (int, float), "i": (int,), "u": (int,)}
_KINDS = {"f": "numbers", "i": "whole numbers", "u": "whole numbers", "O": "strings"}


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """One input of a signature.

    Attributes:
        dtype: of the array; object for bytes.
        shape: None for sizes that are free; None altogether where the rank is free too.
        is_optional: whether the signature has a default for it.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...] | None
    is_optional: bool = False


@dataclasses.dataclass(frozen=True)
class PredictRequest:
    """The body of a `:predict` request.

    Attributes:
        signature: its name.
        inputs: an array for each input that was given; bytes are arrays of objects.
        is_row: whether the request was in row form ("instances"), which the answer follows.
        min_effort: the least effort that the client takes.
    """

    signature: str
    inputs: dict[str, np.ndarray]
    is_row: bool
    min_effort: float = 0.0


def parse_predict(body: bytes, signatures: Mapping[str, Mapping[str, InputSpec]]) -> PredictRequest:
    """The arrays of a body, which must fit one of the signatures (name -> inputs by name)."""
    document = _document(body)
    name = document.get("signature_name", DEFAULT_SIGNATURE) or DEFAULT_SIGNATURE
    if not isinstance(name, str):
        raise invalid("signature_name must be a string")
    specs = signatures.get(name)
    if not specs:
        raise invalid(f"there is no signature {_short(name)}; there are {_listed(signatures)}")
    is_row = "instances" in document
    if is_row == ("inputs" in document):
        raise invalid('the request must have either "instances" (rows) or "inputs" (columns)')
    read = _rows if is_row else _columns
    inputs = read(document["instances" if is_row else "inputs"], specs)
    _check_batch(inputs)
    return PredictRequest(name, inputs, is_row, _min_effort(document.get("min_effort", 0.0)))


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except RecursionError:
        raise invalid("the body is not JSON that can be read: too many lists in lists") from None
    except ValueError as error:
        raise invalid(f"the body is not JSON: {_short(str(error), 120)}") from None
    if not isinstance(document, dict):
        raise invalid(f"the body must be a JSON object, got {_kind(document)}")
    return document


def _min_effort(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise invalid("min_effort must be a number between 0 and 1")
    return float(value)


def _rows(instances: Any, specs: Mapping[str, InputSpec]) -> dict[str, np.ndarray]:
    """Row form: a list with an object per image; a plain value where one input is required."""
    if not isinstance(instances, list) or not instances:
        raise invalid('"instances" must be a list with at least one element')
    if not any(map(_is_object, instances)):
        name = _only_required(specs)
        if name is None:
            raise invalid(
                f"an element of instances must be an object with the keys {_listed(specs)}"
            )
        instances = [{name: value} for value in instances]
    for i, one in enumerate(instances):
        if not _is_object(one):
            raise invalid(f"instances[{i}] must be an object as the others are, got {_kind(one)}")
        _check_names(one, instances[0], specs, f"instances[{i}]")
    return {
        name: _array([one[name] for one in instances], specs[name], f"instances[...].{name}")
        for name in instances[0]
    }


def _columns(inputs: Any, specs: Mapping[str, InputSpec]) -> dict[str, np.ndarray]:
    """Column form: an object with all values of each input; or those of the only required one."""
    if not _is_object(inputs):
        name = _only_required(specs)
        if name is None:
            raise invalid(f"inputs must be an object with the keys {_listed(specs)}")
        inputs = {name: inputs}
    _check_names(inputs, inputs, specs, "inputs")
    return {name: _array(value, specs[name], f"inputs.{name}") for name, value in inputs.items()}


def _only_required(specs: Mapping[str, InputSpec]) -> str | None:
    """The input that a value without a name stands for: the only one without a default."""
    needed = [name for name, spec in specs.items() if not spec.is_optional]
    return needed[0] if len(needed) == 1 else None


def _check_names(
    given: Mapping[str, Any], first: Mapping[str, Any], specs: Mapping[str, InputSpec], where: str
) -> None:
    needed = {name for name, spec in specs.items() if not spec.is_optional}
    if not needed <= given.keys() <= specs.keys():
        raise invalid(
            f"{where} must have the keys {_listed(specs)}, got {_listed(given) or 'none'}"
        )
    if given.keys() != first.keys():
        raise invalid(f"{where} must have the same keys as the first, got {_listed(given)}")


def _is_object(value: Any) -> bool:
    """An object that is no `{"b64": ...}`, which stands for a string."""
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: dict) -> bool:
    return len(value) == 1 and isinstance(value.get("b64"), str)


def _array(value: Any, spec: InputSpec, where: str) -> np.ndarray:
    try:
        # Objects: a list of short strings and a long one would else take the long one's memory
        # for each, and NumPy would read numbers out of strings.
        objects = np.array(value, dtype=object)
    except ValueError:
        raise invalid(f"the lists of {where} must have equal lengths") from None
    kinds = set(map(type, objects.flat))
    if list in kinds:
        raise invalid(f"the lists of {where} must have equal lengths")
    if not _has_shape(objects.shape, spec.shape):
        shape = [*map(str, objects.shape)]
        raise invalid(
            f"{where} must have the shape {_shape_text(spec.shape)}, got [{', '.join(shape)}]"
        )
    if spec.dtype.kind == "O":
        flat = [_bytes(x, where) for x in objects.flat]
        found = np.empty(len(flat), object)
        found[:] = flat
        return found.reshape(objects.shape)
    if not kinds <= set(_NUMBERS[spec.dtype.kind]):
        wrong = next(x for x in objects.flat if type(x) not in _NUMBERS[spec.dtype.kind])
        raise invalid(f"{where} must have {_KINDS[spec.dtype.kind]}, got {_kind(wrong)}")
    return _numbers(objects, spec.dtype, where)


def _numbers(objects: np.ndarray, dtype: np.dtype, where: str) -> np.ndarray:
    try:
        wide = objects.astype(np.float64 if dtype.kind == "f" else np.int64)
    except OverflowError:
        raise invalid(f"a number in {where} does not fit into {dtype}") from None
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    if wide.size and not (limits.min <= wide.min() and wide.max() <= limits.max):
        raise invalid(f"a number in {where} does not fit into {dtype}")
    return wide.astype(dtype)


def _bytes(value: Any, where: str) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError:
            raise invalid(f"a string in {where} is not Unicode") from None
    if not isinstance(value, dict) or not _is_base64(value):
        raise invalid(f'{where} must have strings or {{"b64": "..."}}, got {_kind(value)}')
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"a string in {where} is not base64") from None


def _check_batch(inputs: Mapping[str, np.ndarray]) -> None:
    """All inputs with a row per image must have equally many."""
    rows = {name: len(array) for name, array in inputs.items() if array.ndim}
    if len(set(rows.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise invalid(f"all inputs must have equally many rows, got {listed}")


def _has_shape(shape: tuple[int, ...], wanted: tuple[int | None, ...] | None) -> bool:
    if wanted is None:
        return len(shape) <= 1
    return len(shape) == len(wanted) and all(
        free is None or size == free for size, free in zip(shape, wanted, strict=True)
    )


def _shape_text(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "[] or [B]"
    return f"[{', '.join('any' if size is None else str(size) for size in shape)}]"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(_short(name) for name in sorted(names))


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _kind(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return names.get(type(value), "null" if value is None else "a number")
