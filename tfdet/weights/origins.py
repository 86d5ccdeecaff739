"""Where weights come from, as users type it, and what they ask of a model's configuration."""

import contextlib
import functools
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from tfdet import records, registry
from tfdet.backbones.encoding import Encoding
from tfdet.detectors.detector_config import SHARED
from tfdet.errors import UserError
from tfdet.weights import cache, catalog, coco_names, reading, sources, stored
from tfdet.weights.source import Source

SHAPES = "shapes"
KINDS = (catalog.COCO, catalog.IMAGENET)  # of published weights
_SHAPES_FOLDER = pathlib.Path(__file__).parent / "shapes"
# What our own weights files call their arrays.
_OURS = re.compile(r"(.+/)?vars/\d+")
_CLASSES = ("num_classes", "class_names", "class_ids")
# Keys that a user may set other than the published ones: the network computes the same.
_FREE = {*SHARED, "nms", "frozen_stages", "batch_norm"}


class Origin(NamedTuple):
    """A weights file, read as far as its names and shapes.

    Attributes:
        path: of the file.
        source: what maps it; None of our own files.
        weights: its tensors; None of our own files.
        settings: keys of the model's configuration that it asks for, dotted where nested.
    """

    path: str
    source: Source | None
    weights: reading.Weights | None
    settings: dict[str, Any]


def open_origin(name: str, typed: str, overrides: Mapping[str, Any] | None = None) -> Origin:
    """What a user means by `weights=typed` of model `name`.

    Args:
        name: of a registered model.
        typed: "imagenet" or "coco" (the published file for the model, in the cache), "shapes" (ours
            in the package), the name of a file in `tfdet-weights list`, a path, or "source:path".
        overrides: the user's changes of the model, dotted or nested; a backbone among them is the
            one that weights of a backbone are for.
    """
    config = registry.config(name, **(overrides or {}))  # an unknown model or key is said first
    path, source_name = located(typed, name)
    if not source_name and stored.is_ours(path):
        return Origin(path, None, None, stored.settings_of(path))
    weights = reading.open_weights(path)
    if looks_like_ours(weights):
        if source_name:
            raise UserError(f"{path} is a file of tfdet; give it without {source_name!r}")
        return Origin(path, None, None, {})
    if source_name:
        source = sources.named(source_name, weights.shapes, path)
    else:
        source = sources.recognised(weights.shapes, path)
    # Everywhere else the published model is meant, and named in messages.
    chosen = {key.rpartition(".")[2] for key in _flat_keys(records.nest(_plain(overrides or {})))}
    model = config if "backbone" in chosen else name
    return Origin(path, source, weights, _plain(source.settings(model, weights.shapes)))


def located(typed: str, model: str | None = None) -> tuple[str, str]:
    """Where a file is, and the name of its source; "" where nobody said it.

    Args:
        typed: as of `open_origin`.
        model: registered name of the model that the file is for; None for any.
    """
    prefix, _, rest = typed.partition(":")
    if rest and prefix in sources.NAMES:
        is_name = rest in KINDS or catalog.find(model, rest) is not None
        if is_name and not os.path.exists(rest):
            raise UserError(f"{typed} names a project and no file; give {rest}")
        return _existing(rest), prefix
    if os.path.isfile(typed) or os.path.isfile(f"{typed}.index"):
        return typed, ""
    # Ahead of folders: those of data sets and clones have such names.
    if typed == SHAPES and model is not None:
        return _of_shapes(model), ""
    entry = catalog.find(model, typed)
    if entry is not None:
        return cache.path_of(entry), entry.source
    if typed in KINDS and model is not None:
        raise UserError(
            f"no published {typed} weights are known for {model}; `tfdet-weights list` shows all"
        )
    if typed in KINDS:
        raise catalog.unknown(typed)
    return _existing(typed), ""


def _existing(path: str) -> str:
    if os.path.exists(path) or os.path.exists(f"{path}.index"):
        return path
    raise UserError(f"weights {path} do not exist; {_advice(path)}")


def _advice(path: str) -> str:
    prefix, _, rest = path.partition(":")
    if rest and os.path.exists(rest):
        return records.nearest(prefix, sources.NAMES)
    folder = os.path.dirname(path)
    with contextlib.suppress(OSError):
        beside = [os.path.join(folder, name) for name in os.listdir(folder or ".")]
        if found := catalog.nearest(path, *beside):
            return found
    return (
        f"give a file, SOURCE:FILE with one of {', '.join(sources.NAMES)}, or a name that "
        "`tfdet-weights list` shows"
    )


def _of_shapes(name: str) -> str:
    if name in shapes_models():
        return str(_SHAPES_FOLDER / f"{name}.weights.h5")
    listed = ", ".join(shapes_models()) or "none in this installation"
    raise UserError(f"there are no weights 'shapes' of {name}; there are of: {listed}")


@functools.cache
def shapes_models() -> tuple[str, ...]:
    """The models that have weights in the package, trained on the shapes set."""
    return tuple(
        sorted(x.name.removesuffix(".weights.h5") for x in _SHAPES_FOLDER.glob("*.weights.h5"))
    )


def looks_like_ours(weights: reading.Weights) -> bool:
    """Whether a file is of tfdet or of another program that saved a model of Keras."""
    return all(_OURS.fullmatch(name) for name in weights.tensors)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they can be written into files."""
    plain = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            value = _plain(value)
        plain[key] = value.to_text() if isinstance(value, Encoding) else value
    return plain


# The configuration


def merged(name: str, origin: Origin, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides that make model `name` the one of the weights.

    A user's key that would make another function of the weights is a `UserError`. Other classes
    are allowed, and how detections are chosen.

    Args:
        name: of a registered model.
        origin: of the weights.
        overrides: the user's, dotted or nested.
    """
    ours = records.nest(_plain(overrides))
    asked = asked_of(name, origin, ours)
    result = records.merge(asked, ours)
    chosen = _flat(registry.config(name, **result))
    wanted = _flat(registry.config(name, **records.merge(result, asked)))
    for key in _flat_keys(asked):
        if set(key.split(".")) & _FREE or _below(chosen, key) == _below(wanted, key):
            continue
        raise UserError(
            f"{origin.path} is for {key}={_short(wanted, key)}, and {key}={_short(chosen, key)} "
            "would make another function of its weights; leave that key out"
        )
    return result


def asked_of(name: str, origin: Origin, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that weights ask of model `name`, nested, beside a user's overrides."""
    settings = records.nest(_for_classes(origin.settings, overrides))
    return _with_names(name, settings, overrides)


def changed_by(name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `asked` that model `name` does not have by itself, dotted, without classes."""
    own = registry.config(name)
    before, after = _flat(own), _flat(records.replace(own, asked))
    return {
        key: value
        for key, value in _leaves(asked)
        if key not in _CLASSES and _below(before, key) != _below(after, key)
    }


def settings_for_training(name: str, origin: Origin, model: Mapping[str, Any]) -> dict[str, Any]:
    """Section `model` of a recipe with what the weights ask for; the data choose the classes."""
    overrides = {key: value for key, value in model.items() if key != "name"}
    without = {key: value for key, value in origin.settings.items() if key not in _CLASSES}
    return {
        **model,
        **merged(name, origin._replace(settings=without), overrides),
    }


def _for_classes(settings: dict[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, without the classes of the weights where the user has others."""
    if not any(key in ours for key in _CLASSES):
        return settings
    is_same = ours.get("num_classes", settings.get("num_classes")) == settings.get("num_classes")
    left_out = () if is_same else _CLASSES
    return {key: value for key, value in settings.items() if key not in left_out}


def _with_names(name: str, asked: dict[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Adds COCO's names where the weights have as many classes and nobody names them."""
    if "num_classes" not in asked or {"class_names", "class_ids"} & {*asked, *ours}:
        return asked
    if asked["num_classes"] == registry.config(name).num_classes and (
        registry.config(name).class_names
    ):
        return asked
    names, ids = coco_names.classes(asked["num_classes"]) or ([], [])
    return {**asked, "class_names": names, "class_ids": ids}


def _flat(config: Any) -> dict[str, Any]:
    return dict(_leaves(records.to_dict(config)))


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Any:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _flat_keys(settings: Mapping[str, Any]) -> list[str]:
    return [key for key, _ in _leaves(settings)]


def _below(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What a configuration has at a key, or below it."""
    return {x: v for x, v in values.items() if x == key or x.startswith(f"{key}.")}


def _short(values: Mapping[str, Any], key: str) -> str:
    found = _below(values, key)
    text = repr(found[key]) if key in found else "an encoding"
    return text if len(text) <= 60 else f"{text[:57]}..."
