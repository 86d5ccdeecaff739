"""The models of the garden by name."""

from __future__ import annotations

import dataclasses
import importlib
import os
import pkgutil
import sys
from typing import TYPE_CHECKING, Any

from tfdet import records
from tfdet.errors import UserError, first_line

if TYPE_CHECKING:
    from tfdet.detectors.base import Detector

# Each module of it registers its models when it is imported.
_FAMILIES = "tfdet.detectors"

# Models with this end of their names are small ones, for unit tests.
_FOR_TESTS = "-test"
_MOST_LETTERS = 300  # of what Keras says, which may hold a whole configuration

_MODELS: dict[str, Entry] = {}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered model.

    Attributes:
        detector: its class.
        config: the configuration that its name stands for.
        family: the name of the file that registers it.
    """

    detector: type[Detector]
    config: Any
    family: str


def register(name: str, detector: type[Detector], config: Any) -> None:
    """Makes a model known under `name`.

    Args:
        name: of the model. A model outside of tfdet is found by recipes and commands if its name
            begins with its module: "my_detectors.bright:dy-bright" in my_detectors/bright.py.
        detector: a `Detector`.
        config: the configuration that the name stands for, of the type `detector.config_class`.
    """
    if name in _MODELS:
        raise ValueError(f"a model named {name!r} is registered already")
    # The caller's module: a family is a file, so that nobody has to name it again.
    family = sys._getframe(1).f_globals["__name__"].rpartition(".")[2]
    _MODELS[name] = Entry(detector, config, family)


def list_models(test: bool = False) -> list[str]:
    """Names that `create` takes, grouped by family.

    Args:
        test: also list the "*-test" models, which are small ones for unit tests.
    """
    return [name for names in families(test).values() for name in names]


def families(test: bool = False) -> dict[str, list[str]]:
    """Names of the models by family, {"fcos": ["fcos-r50", ...], ...}; `test` as above."""
    grouped: dict[str, list[str]] = {}
    for name, entry in _models().items():
        if test or not name.endswith(_FOR_TESTS):
            grouped.setdefault(entry.family, []).append(name)
    return grouped


def config(name: str, **overrides: Any) -> Any:
    """The configuration of a model, with changes.

    Args:
        name: one of `list_models(test=True)`.
        **overrides: fields of the configuration; fields of nested records as dicts or by dotted
            keys, as in `config("efficientdet-d0", **{"nms.method": "hard"})`.
    """
    return records.replace(_entry(name).config, overrides)


def create(name: str, **overrides: Any) -> Detector:
    """A detector by name, with its variables made; `overrides` as in `config`."""
    _check_keras()
    detector = detector_class(name).from_record(config(name, **overrides), name)
    detector.build_variables()
    return detector


def _check_keras() -> None:
    """Refuses what an old ~/.keras/keras.json may set for all programs."""
    import keras

    found = {"image_data_format": keras.config.image_data_format(), "floatx": keras.config.floatx()}
    for name, wanted in {"image_data_format": "channels_last", "floatx": "float32"}.items():
        if found[name] != wanted:
            raise UserError(
                f"Keras is set to {name}={found[name]!r}, detectors need {wanted!r}: change "
                f"~/.keras/keras.json, or call keras.config.set_{name}({wanted!r})"
            )


def load_model(path: str | os.PathLike[str]) -> Detector:
    """A detector from a `.keras` file that `model.save` wrote.

    As `keras.saving.load_model`, which alone finds only classes that were imported before:
    this imports those of tfdet. Import modules with parts of your own first.
    """
    import keras

    _models()
    try:
        model = keras.saving.load_model(path)
    except (ValueError, TypeError, KeyError, OSError) as error:
        reason = first_line(error)[:_MOST_LETTERS]
        raise UserError(f"{os.fspath(path)} cannot be loaded as a model: {reason}") from None
    if not hasattr(model, "detect"):
        raise UserError(f"{os.fspath(path)} holds a {type(model).__name__}, which is no detector")
    return model


def detector_class(name: str) -> type[Detector]:
    """The class that builds a registered model from its configuration."""
    return _entry(name).detector


def _models() -> dict[str, Entry]:
    package = importlib.import_module(_FAMILIES)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{_FAMILIES}.{module.name}")
    return _MODELS


def _entry(name: str) -> Entry:
    if not isinstance(name, str):
        raise UserError(f"the name of a model must be text, got {name!r}")
    models = _models()
    if name not in models and ":" in name:
        _import_module_of(name)
    if name not in models:
        raise UserError(f"unknown model {name!r}; {records.nearest(name, models)}")
    return models[name]


def _import_module_of(name: str) -> None:
    """Imports the module that registers "module:name", a model from outside of tfdet."""
    module = name.partition(":")[0]
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"model {name!r}: the module {error.name!r} cannot be imported; it must be installed "
            "or lie in a folder of PYTHONPATH"
        ) from None
