"""Weights of other projects into a model: its configuration first, then every variable.

origin = origins.open_origin("retinanet-r50", "torchvision:retinanet.pth")
model = registry.create("retinanet-r50", **settings.merged("retinanet-r50", origin, {}))
print(fill(model, origin).sentence())
"""

import re
from collections.abc import Iterable

import keras
import numpy as np

from tfdet.errors import UserError
from tfdet.weights.checkpoint import CheckpointTensor
from tfdet.weights.lazy import LazyTensor
from tfdet.weights.report import Report
from tfdet.weights.source import Source

_SHOWN = 3
# A detector's backbone in the path of its variables, and in a weights file.
BACKBONE = re.compile(r"(^|.*/)backbone(?=/)")


def fill(
    model: keras.Model, source: Source, tensors: dict[str, LazyTensor], path: str, kind: str = ""
) -> Report:
    """Copies a checkpoint into a model; each tensor and each variable is accounted for.

    Args:
        model: that was created with the settings of the source.
        source: of the checkpoint.
        tensors: of the checkpoint.
        path: of the file, for messages.
        kind: of the file, for the report.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    entries = source.entries(model, shapes)
    _check_names(entries, tensors, path, source)
    _check_shapes(entries, tensors, path, source)
    new = {id(variable) for variable in source.new(model, shapes)}
    new |= _left_out(model, entries, new, source.backbone_only(shapes), path)
    resized: set[int] = set()
    used = []
    for entry in entries:
        if entry.variable is None:
            continue
        if _assign(entry, entry.variable, tensors[entry.name], path):
            used.append((entry.name, path_in(model, entry.variable)))
        else:
            resized.add(id(entry.variable))
    return Report(
        path,
        f"{source.name}, {kind}" if kind else source.name,
        used=tuple(used),
        unused=tuple(entry.name for entry in entries if entry.variable is None),
        new=_paths(model, new | resized),
        per_class=_paths(model, resized),
        classes=(None, getattr(model, "num_classes", 0)),
        is_backbone=source.backbone_only(shapes),
    )


def path_in(model: keras.Model, variable: keras.Variable) -> str:
    """The variable's path without the name of the model."""
    return variable.path.removeprefix(f"{model.name}/")


def _paths(model: keras.Model, chosen: set[int]) -> tuple[str, ...]:
    return tuple(path_in(model, v) for v in model.weights if id(v) in chosen)


def _check_names(
    entries: Iterable[CheckpointTensor],
    tensors: dict[str, LazyTensor],
    path: str,
    source: Source,
) -> None:
    known = {entry.name for entry in entries}
    missing = [x.name for x in entries if x.variable is not None and x.name not in tensors]
    if missing:
        raise UserError(
            f"{path} lacks {_listed(missing)}, which {source.name} has for such a model; is it of "
            "another model, or cut?"
        )
    strange = [name for name in tensors if name not in known]
    if strange:
        raise UserError(
            f"{path} has {_listed(strange)}, which this model has no place for; is it of another "
            "model, or was something added to it?"
        )


def _check_shapes(
    entries: Iterable[CheckpointTensor],
    tensors: dict[str, LazyTensor],
    path: str,
    source: Source,
) -> None:
    for entry in entries:
        found = tensors[entry.name].shape if entry.name in tensors else entry.shape
        if entry.variable is None or entry.per_class or tuple(entry.shape) == found:
            continue
        raise UserError(
            f"{path}: {entry.name} has the shape {list(found)}, and {source.name} has "
            f"{list(entry.shape)} for {entry.variable.path} of the shape "
            f"{list(entry.variable.shape)}; the file is of another model, or damaged"
        )


def _left_out(
    model: keras.Model,
    entries: Iterable[CheckpointTensor],
    new: set[int],
    backbone_only: bool,
    path: str,
) -> set[int]:
    """The variables that no tensor is for; one that should have a tensor is an error."""
    filled = {id(entry.variable) for entry in entries}
    left = [v for v in model.weights if id(v) not in filled and id(v) not in new]
    if backbone_only:
        begun = {_backbone_of(v) for v in model.weights if id(v) in filled}
        wrong = [v for v in left if _backbone_of(v) in begun - {""}]
    else:
        wrong = left
    if wrong:
        raise UserError(
            f"{path} has nothing for {len(wrong)} variables of the model, such as "
            f"{_listed([v.path for v in wrong])}; is it of another model?"
        )
    return {id(variable) for variable in left}


def _backbone_of(variable: keras.Variable) -> str:
    found = BACKBONE.match(variable.path)
    return found[0] if found else ""


def _assign(
    entry: CheckpointTensor, variable: keras.Variable, tensor: LazyTensor, path: str
) -> bool:
    """Copies a tensor; False if it has another number of classes."""
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        array = tensor.read().astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise UserError(
            f"{path} holds values that are not numbers (NaN or infinite) in {entry.name}; it comes "
            "from a training that diverged, or is damaged"
        )
    if entry.per_class and tuple(entry.shape) != array.shape:
        return False
    if entry.assign(array):
        return True
    if entry.per_class:
        return False
    raise UserError(
        f"{path}: {entry.name} of the shape {list(array.shape)} does not fit {variable.path} of "
        f"the shape {list(variable.shape)}; the file is of another model"
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
