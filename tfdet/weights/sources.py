"""The one table of all kinds of checkpoints that are mapped to our models."""

import importlib
from collections.abc import Iterable

from tfdet.errors import UserError
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


def source(name: str) -> Source:
    """The source of a name in `NAMES`."""
    return importlib.import_module(f"tfdet.weights.{name}").SOURCE


def known() -> list[Source]:
    """All sources."""
    return [source(name) for name in NAMES]


def recognised(shapes: Shapes, path: str) -> Source:
    """The source whose checkpoints have such tensors; none or several are a `UserError`.

    Args:
        shapes: {name: shape} of the file.
        path: of the file, for messages.
    """
    found = [one for one in known() if one.recognises(shapes)]
    if len(found) == 1:
        return found[0]
    if found:
        names = " or ".join(f"{one.name}:{path}" for one in found)
        raise UserError(f"{path} could be of several projects; say which: {names}")
    raise UserError(
        f"{path} has {len(shapes)} tensors ({_some(shapes)}) and is of no project that is known "
        f"here ({', '.join(NAMES)})"
    )


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")
