"""Frozen dataclasses as typed records: read from plain data, changed by dotted keys, written back.

Model configurations and recipes are records. A wrong key or type is a `UserError` that names the
place and the nearest known key, so that a typing mistake ends before any work starts.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

from tfdet.errors import UserError
from tfdet.printable import shown

Record = TypeVar("Record")
# In the metadata of a field: a function that gives {key: type} of keys that the record's class does
# not know. The field holds them, {key: value}; in plain data they stand among the record's own.
OPEN = "open"
# What other projects call a key.
_FOREIGN = {
    **dict.fromkeys(("nc", "classes"), "num_classes"),
    **dict.fromkeys(("lr", "lr0"), "learning_rate"),
    **dict.fromkeys(("imgsz", "img_size", "input_shape", "input_size"), "image_size"),
    **dict.fromkeys(("names", "labels"), "class_names"),
    **dict.fromkeys(("freeze", "var_freeze_expr"), "frozen"),
    "amp": "mixed_precision",
    "weights": "pretrained",
    # Backbones.
    **{f"resnet{depth}": f"r{depth}" for depth in (18, 50, 101)},
    **dict.fromkeys(("mobilenet", "mobilenetv1", "mobilenet_v1"), "mnv1"),
    **dict.fromkeys(("mobilenetv2", "mobilenet_v2"), "mnv2"),
    **{f"efficientnet-b{size}": f"b{size}" for size in range(8)},
    **{f"efficientnet-lite{size}": f"lite{size}" for size in range(5)},
}
_LARGEST = 2**63  # whole numbers go into NumPy's and TensorFlow's


class UnknownKey(UserError):
    """A key that a record does not have; `place` is its dotted name."""

    def __init__(self, place: str, hint: str):
        super().__init__(f"unknown key {place!r}; {hint}")
        self.place = place


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """A clause that offers the known name nearest to `name`, or lists the known ones."""
    known = sorted(known)
    close = [_FOREIGN[name]] if _FOREIGN.get(name) in known else []
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def to_dict(record: Any) -> dict[str, Any]:
    """The record as plain dicts, lists and scalars, ready for JSON or YAML."""
    plain: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        value = _plain(getattr(record, field.name))
        plain |= value if OPEN in field.metadata else {field.name: value}
    return plain


def from_dict(cls: type[Record], data: Mapping[str, Any], where: str = "") -> Record:
    """Builds a record of type `cls`; keys that `data` leaves out keep their defaults."""
    if not isinstance(data, Mapping):
        raise UserError(f"{where or cls.__name__} must be a mapping of keys, got {shown(data)}")
    hints, fields = typing.get_type_hints(cls), dataclasses.fields(cls)  # type: ignore[arg-type]
    known = [f.name for f in fields if f.init and OPEN not in f.metadata]
    homes: dict[str, str] = {}  # key -> open field
    for field in fields:
        kinds = field.metadata[OPEN]() if OPEN in field.metadata else {}
        hints, homes = {**hints, **kinds}, {**homes, **dict.fromkeys(kinds, field.name)}
    known += homes
    values: dict[str, Any] = {}
    for key, value in data.items():
        place = f"{where}.{key}" if where else str(key)
        if key not in known:
            raise UnknownKey(place, nearest(str(key), known))
        value = _typed(hints[key], value, place)
        if key in homes:
            values.setdefault(homes[key], {})[key] = value
        else:
            values[key] = value
    missing = [
        f.name
        for f in fields
        if f.init
        and f.name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{where or cls.__name__} lacks the key {missing[0]!r}")
    return cls(**values)


def replace(record: Record, changes: Mapping[str, Any], where: str = "") -> Record:
    """A copy of `record` with `changes`, whose keys may be dotted ("nms.method") or nested dicts.

    Nested records are merged, not replaced: keys that are not named keep their values.
    """
    return from_dict(type(record), merge(to_dict(record), nest(changes)), where)


def nest(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Turns dotted keys into nested dicts: {"a.b": 1} -> {"a": {"b": 1}}."""
    nested: dict[str, Any] = {}
    for key, value in changes.items():
        first, _, rest = str(key).partition(".")
        if rest:
            value = {rest: value}
        if isinstance(value, Mapping):
            below = nested.get(first)
            value = merge(below if isinstance(below, dict) else {}, nest(value))
        nested[first] = value
    return nested


def flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings with dotted keys, the inverse of `nest`: ("a.b", 1), ..."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mappings merged at every depth."""
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            value = merge(merged[key], value)
        merged[key] = value
    return merged


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _typed(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type that `hint` names; lists become tuples, whole numbers become floats."""
    if type(value).__module__ == "numpy":  # as len(np.unique(...)) or an array's shape gives it
        value = value.tolist()
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _typed_union(args, value, where)
    if origin is Literal:
        if value not in args:
            allowed = ", ".join(repr(a) for a in args)
            raise UserError(f"{where} must be one of {allowed}; got {shown(value)}")
        return value
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where)
    if origin is tuple:
        return _typed_tuple(args, value, where)
    if origin in (dict, Mapping) or hint is dict:
        return dict(_checked(dict, value, where))
    if hint is float:
        value = _number(value)
    return _checked(hint, value, where)


def _typed_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in args:
        return None
    choices = [a for a in args if a is not type(None)]
    problem: UserError | None = None
    # What is said of a wrong value is of the first: of the record where keys were given.
    choices.sort(key=lambda choice: dataclasses.is_dataclass(choice) != isinstance(value, Mapping))
    for choice in choices:
        try:
            return _typed(choice, value, where)
        except UserError as error:
            problem = problem or error
    assert problem is not None  # a union has choices
    raise problem


def _typed_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        pair = f" of {len(args)} values" if args[1:] and args[1] is not Ellipsis else ""
        raise UserError(f"{where} must be a list{pair}, got {shown(value)}")
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise UserError(f"{where} must have {len(args)} values, got {len(value)}: {shown(value)}")
    return tuple(_typed(args[i], item, f"{where}[{i}]") for i, item in enumerate(value))


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return value
    try:
        # YAML 1.1 reads 4e-5, which has no dot, as text.
        return float(value)
    except (ValueError, OverflowError):
        return value


def _checked(kind: type, value: Any, where: str) -> Any:
    # bool is an int in Python; a recipe that says `true` for a count is a mistake all the same.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(
            f"{where} must be {_KIND_NAMES.get(kind, kind.__name__)}, got {shown(value)}"
        )
    if kind is int and isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise UserError(f"{where} must be a whole number of 64 bits, got {shown(value)}")
    return value


_KIND_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "a mapping",
}
