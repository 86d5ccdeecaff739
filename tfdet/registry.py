"""The models of the garden by name."""

import dataclasses
import importlib
from typing import Any

from tfdet import records
from tfdet.errors import UserError

# Modules that register models when they are imported.
_FAMILIES = (
    "tfdet.detectors.efficientdet",
    "tfdet.detectors.fcos",
    "tfdet.detectors.packdet",
    "tfdet.detectors.retinanet",
    "tfdet.detectors.faster_rcnn",
    "tfdet.detectors.mask_rcnn",
    "tfdet.nas.found",
    "tfdet.nas.elastic",
    "tfdet.detectors.yolov7",
    "tfdet.detectors.dynamicdet",
    "tfdet.detectors.caddet",
)

_MODELS: dict[str, "Entry"] = {}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered model: its class and the configuration that its name stands for."""

    detector: type
    config: Any


def register(name: str, detector: type, config: Any) -> None:
    """Makes a model known under `name`."""
    if name in _MODELS:
        raise ValueError(f"a model named {name!r} is registered already")
    _MODELS[name] = Entry(detector, config)


def list_models() -> list[str]:
    """All names that `create` takes, grouped by family."""
    return list(_models())


def config(name: str, **overrides: Any) -> Any:
    """The configuration of a model, with changes.

    Args:
        name: one of `list_models()`.
        **overrides: fields of the configuration; fields of nested records as dicts or by dotted
            keys, as in `config("efficientdet-d0", **{"nms.method": "hard"})`.
    """
    return records.replace(_entry(name).config, overrides)


def create(name: str, **overrides: Any) -> Any:
    """A detector by name, with its variables made; `overrides` as in `config`."""
    detector = detector_class(name).from_record(config(name, **overrides), name)
    detector.build_variables()
    return detector


def detector_class(name: str) -> type:
    """The class that builds a registered model from its configuration."""
    return _entry(name).detector


def _models() -> dict[str, Entry]:
    for module in _FAMILIES:
        importlib.import_module(module)
    return _MODELS


def _entry(name: str) -> Entry:
    models = _models()
    if not isinstance(name, str):
        raise UserError(f"the name of a model must be text, got {name!r}")
    if name not in models:
        raise UserError(f"unknown model {name!r}; {records.nearest(name, models)}")
    return models[name]
