"""Our own weights files into a model: the whole, a backbone alone, or all but the class outputs."""

import dataclasses
import pathlib
import tempfile
import zipfile
from typing import Any

import keras

from tfdet import records, registry
from tfdet.errors import UserError
from tfdet.weights import keras_files, stored, zips
from tfdet.weights.importing import BACKBONE
from tfdet.weights.report import Report

Shapes = dict[str, tuple[int, ...]]


def load(model: Any, path: str, name: str) -> Report:
    """Reads a `.weights.h5` or `.keras` file of ours; a damaged or wrong one is a `UserError`.

    Of a file that has a backbone alone, the rest of the model is new; of one with other classes the
    outputs that count them.

    Args:
        model: a detector that `registry.create` made.
        path: of the file.
        name: of the model in the registry.
    """
    if not zipfile.is_zipfile(path):
        return _load(model, path, name)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / keras_files.MEMBER
        file.write_bytes(zips.read_member(zips.open_zip(path), keras_files.MEMBER))
        try:
            return dataclasses.replace(_load(model, str(file), name), path=path)
        except UserError as error:
            raise UserError(str(error).replace(str(file), path)) from None


def _load(model: Any, path: str, name: str) -> Report:
    ours, theirs = stored.layout(model), stored.layout(path)
    same = [x for x in ours if theirs.get(x) == ours[x]]
    rest = [x for x in ours if x not in theirs]
    other = [x for x in ours if x in theirs and theirs[x] != ours[x]]
    classes = None
    if other and not rest and len(theirs) == len(ours):
        classes = _classes_of(model, name, {x: (ours[x], theirs[x]) for x in other})
    is_backbone = bool(rest) and same == list(theirs) and same == backbone_of(ours, same)
    if classes is None and not is_backbone:
        stored.load(model, path)  # or an error that says what differs
        same, rest, other = list(ours), [], []
    else:
        stored.load_some(model, path, same)
    return Report(
        path,
        "tfdet",
        used=tuple((x, x) for x in same),
        new=tuple(sorted((*rest, *other))),
        per_class=tuple(other),
        classes=(classes, model.num_classes),
        is_backbone=is_backbone,
    )


def backbone_of(layout: Shapes, like: list[str] | None = None) -> list[str]:
    """The arrays of a model's backbones: of all, or of those that `like` begins."""
    prefixes = {_prefix(x) for x in (layout if like is None else like)} - {""}
    return [x for x in layout if _prefix(x) in prefixes]


def _prefix(name: str) -> str:
    found = BACKBONE.match(name)
    return found[0] if found else ""


def _classes_of(
    model: keras.Model, name: str, shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
) -> int | None:
    """The classes of a file whose arrays differ so; None if it is not classes that differ.

    Args:
        model: of other classes.
        name: of the model in the registry.
        shapes: {array: (the model's shape, the file's)}.
    """
    config = model.config
    count = config.num_classes
    more = records.replace(config, {"num_classes": count + 1, "class_names": (), "class_ids": ()})
    twin = registry.detector_class(name).from_record(more, model.name)
    twin.build_variables()
    wider = stored.layout(twin)
    found = {_count(*pair, wider[x], count) for x, pair in shapes.items()}
    return found.pop() if len(found) == 1 else None


def _count(
    ours: tuple[int, ...], theirs: tuple[int, ...], wider: tuple[int, ...], count: int
) -> int | None:
    """The classes of an array of a file, from what one class more adds to the model's."""
    if not len(ours) == len(theirs) == len(wider):
        return None
    axes = [i for i, sides in enumerate(zip(ours, theirs, wider, strict=True)) if len({*sides}) > 1]
    if len(axes) != 1:
        return None
    (axis,) = axes
    step = wider[axis] - ours[axis]
    more, rest = divmod(theirs[axis] - ours[axis], step) if step else (0, 1)
    return count + more if rest == 0 and count + more > 0 else None
