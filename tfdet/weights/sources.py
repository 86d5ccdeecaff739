"""The one table of all kinds of checkpoints that are mapped to our models."""

import importlib
import itertools
from collections.abc import Iterable

from tfdet.errors import UserError
from tfdet.printable import printable
from tfdet.weights.source import Shapes, Source

# A file of this folder each, with a `SOURCE`.
NAMES = (
    "automl",
    "detectron",
    "detr",
    "effdet",
    "efficientnet_lite",
    "keras_applications",
    "mmdet",
    "mmdet_caffe",
    "packdet",
    "timm_tf",
    "torchvision",
    "yolov7",
)
_MOST_PARTS = 8


def source(name: str) -> Source:
    """The source of a name in `NAMES`."""
    return importlib.import_module(f"tfdet.weights.{name}").SOURCE


def known() -> list[Source]:
    """All sources."""
    return [source(name) for name in NAMES]


def candidates(shapes: Shapes) -> list[Source]:
    """The sources whose checkpoints have tensors of these names."""
    return [one for one in known() if one.recognises(shapes)]


def recognised(shapes: Shapes, path: str) -> Source:
    """The source whose checkpoints have such tensors; none or several are a `UserError`.

    Args:
        shapes: {name: shape} of the file.
        path: of the file, for messages.
    """
    found = candidates(shapes)
    if len(found) == 1 and not found[0].is_ambiguous:
        return found[0]
    if found:
        raise UserError(f"the project of {path} has to be named: {_offered(found, path)}")
    raise UserError(
        f"{path} has {len(shapes)} tensors ({_some(shapes)}) and is of no project that is known "
        f"here ({', '.join(NAMES)}){_inside(shapes)}"
    )


def named(name: str, shapes: Shapes, path: str) -> Source:
    """The source that a user named; a `UserError` for a file of another project.

    Args:
        name: in `NAMES`.
        shapes: {name: shape} of the file.
        path: of the file, for messages.
    """
    wanted = source(name)
    if wanted.recognises(shapes):
        return wanted
    others = candidates(shapes)
    advice = f"; give {_offered(others, path)}" if others else ""
    raise UserError(
        f"{path} has {len(shapes)} tensors ({_some(shapes)}) and is not of {wanted.title}{advice}"
    )


def _offered(found: list[Source], path: str) -> str:
    return " or ".join(f"{one.name}:{path}{one.note}" for one in found)


def _inside(shapes: Shapes) -> str:
    """A clause about a part of a larger model that would be recognised by itself."""
    prefixes = {f"{name.partition('.')[0]}." for name in shapes if "." in name}
    for prefix in sorted(prefixes) if len(prefixes) <= _MOST_PARTS else ():
        part = {x.removeprefix(prefix): s for x, s in shapes.items() if x.startswith(prefix)}
        found = candidates(part)
        if found:
            return (
                f"; what begins with {printable(prefix)!r} would be of {found[0].title} by itself: "
                "save the state dict of that part"
            )
    return ""


def _some(names: Iterable[str]) -> str:
    shown = [printable(name) for name in itertools.islice(names, 4)]
    return ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")
