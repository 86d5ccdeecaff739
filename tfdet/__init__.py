"""tfdet: efficient and dynamic object detectors for TensorFlow and Keras.

The public names below are imported when they are first used, so that `import tfdet` costs nothing.
"""

import importlib
from typing import Any

from tfdet import additions
from tfdet.version import __version__

# Upper packages that add to training; recipes and the trainer find them by this name.
additions.declare("tfdet.nas")

_PUBLIC = {
    "create": "tfdet.weights.loading",
    "list_models": "tfdet.registry",
    "profile": "tfdet.profiling",
    "export": "tfdet.serving.export",
    "open_exported": "tfdet.serving.exported",
    "detect": "tfdet.serving.stream",
    "evaluate": "tfdet.evaluation.coco",
    "open_dataset": "tfdet.data.sources",
    "load_model": "tfdet.registry",
    "load_trained": "tfdet.training.trained",
    "Detector": "tfdet.detectors.base",
    "Dynamic": "tfdet.detectors.dynamic",
    "UserError": "tfdet.errors",
}

# Packages whose own public names are used by way of this one: tfdet.data.load.
_PACKAGES = ("data",)

__all__ = ["__version__", *sorted([*_PUBLIC, *_PACKAGES])]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"tfdet.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tfdet' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
