"""What upper packages add to the training of a detector, each under a key of a recipe.

    train: {gamma_l1: 1e-5}  ->  the addition "gamma_l1"  ->  SparseGammas(detector)  ->  fit

A package registers its additions when it is imported, and `tfdet/__init__.py` declares the package,
so that recipes and the trainer find additions without knowing who has them.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tfdet.errors import UserError

if TYPE_CHECKING:
    from tfdet.detectors.base import Detector

# The number of images that are wanted -> batches (images, targets) of the training data.
Batches = Callable[[int], Iterable[Any]]

_packages: list[str] = []
_additions: dict[str, Addition] = {}


@dataclasses.dataclass(frozen=True)
class Addition:
    """Something that is added to a detector while it is trained.

    Attributes:
        key: in the section `train` of a recipe.
        kind: type of the value, as of a field of a record, see `records`.
        default: value of recipes without the key, which adds nothing.
        wrap: (detector or wrapper of one, value, seed) -> what is trained in its place; itself
            where the value adds nothing.
        check: raises `UserError` on a value that cannot be.
        before_measuring: (detector, value, batches) -> changes the detector, which has its averaged
            weights, ahead of each measurement.
        describe: value -> a clause for the plan of a run; "" where the value adds nothing.
    """

    key: str
    kind: Any
    default: Any
    wrap: Callable[[Detector, Any, int], Detector]
    check: Callable[[Any], None] = lambda value: None
    before_measuring: Callable[[Detector, Any, Batches], None] = lambda *args: None
    describe: Callable[[Any], str] = lambda value: ""


def declare(package: str) -> None:
    """Names a package that registers additions when it is imported; it is imported at need."""
    _packages.append(package)


def register(addition: Addition) -> None:
    """Adds to what recipes can name; later ones wrap those that were registered before them."""
    if addition.key in _additions:
        raise ValueError(f"train.{addition.key} is registered twice")
    _additions[addition.key] = addition


def kinds() -> dict[str, Any]:
    """The type of each key."""
    return {key: addition.kind for key, addition in _registered().items()}


def complete(values: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every addition, {key: value}, checked; `values` may leave some out."""
    known = _registered()
    unknown = [key for key in values if key not in known]
    if unknown:
        raise UserError(f"there is no addition {unknown[0]!r}; known: {', '.join(known)}")
    found = {key: values.get(key, addition.default) for key, addition in known.items()}
    for key, value in found.items():
        known[key].check(value)
    return found


def wrapped(detector: Detector, values: Mapping[str, Any], seed: int) -> Detector:
    """What is trained in the detector's place; itself where `values` add nothing.

    Args:
        detector: built, or a wrapper of one.
        values: as `complete` returns them.
        seed: of whatever an addition draws.
    """
    for key, addition in _registered().items():
        detector = addition.wrap(detector, values[key], seed)
    return detector


def before_measuring(detector: Detector, values: Mapping[str, Any], batches: Batches) -> None:
    """Has every addition prepare the detector for a measurement."""
    for key, addition in _registered().items():
        addition.before_measuring(detector, values[key], batches)


def describe(values: Mapping[str, Any]) -> str:
    """Clauses about what is added, each with a space before it."""
    clauses = (addition.describe(values[key]) for key, addition in _registered().items())
    return "".join(f" {clause}" for clause in clauses if clause)


def _registered() -> dict[str, Addition]:
    for package in _packages:
        importlib.import_module(package)
    return _additions
