"""Which model a suggestion takes, and at which image size: sizes of objects against a budget."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfdet import profiling, registry
from tfdet.data import pipeline
from tfdet.data.dataset import DetectionDataset
from tfdet.data.survey import Survey
from tfdet.training import latency
from tfdet.weights import cache, catalog

SMALL = "fcos-nano"
FINER = "efficientdet-nano"  # a third of the multiply-adds of `SMALL` for a pixel
LARGER = tuple(
    f"efficientdet-{scale}" for scale in ("lite0", "lite1", "lite2", "d0", "d1", "d2", "d3")
)
WANTED_SIDE = 24.0  # pixels of small objects on the canvas: three cells of the finest level
LEAST_SIDE = 8.0  # one cell
TIGHT_SIDE = 16.0  # two cells: below, `SMALL` loses the small class of BCCD (docs/data.md)
# Of a class: with fewer, weights from ImageNet gain more than anything else (docs/results.md).
FEW_OBJECTS = 200
_LEAST_CANVAS = 128
_CELL = 32
_SPARE = 3.0  # times the cost of the small model: what a budget must allow for a larger one
_WORTHWHILE = 1.2  # times the scale: what `FINER` must gain, since it finds large objects less well
_TRIES = 4  # to come below a time


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A model that may be suggested.

    Attributes:
        name: registered.
        canvas: (height, width) of its input.
        madds: multiply-adds for an image of that size.
        weights: "coco", "imagenet" or "" for random ones.
        reason: why it was chosen.
        scale: canvas pixels per image pixel.
        num_classes: of the data.
        ms: measured milliseconds; None where nothing was measured.
    """

    name: str
    canvas: tuple[int, int]
    madds: float
    weights: str
    reason: str
    scale: float
    num_classes: int
    ms: float | None = None

    def detector(self, **changes: Any) -> Any:
        """The detector without variables."""
        base = {"num_classes": self.num_classes, "image_size": list(self.canvas)}
        config = registry.config(self.name, **base, **changes)
        return registry.detector_class(self.name).from_record(config, self.name)


def weights_here(name: str) -> str:
    """The kind of published weights of a model that are in the cache: coco, imagenet or ""."""
    for kind in (catalog.COCO, catalog.IMAGENET):
        entry = catalog.find(name, kind)
        if entry is not None and cache.place_of(entry).exists():
            return kind
    return ""


def choose(
    facts: Survey,
    limit: float,
    budget_ms: float | None,
    dataset: DetectionDataset,
    say: Callable[[str], None],
) -> Candidate:
    small = fitted(facts, SMALL, "", math.inf)
    if budget_ms is not None:
        # What the small model does in a millisecond stands for all; the chosen one is timed itself.
        took = latency.milliseconds(_built(small), _samples(dataset, small))
        say(f"{SMALL} at {_shown(small.canvas)} takes {took:.1f} ms here")
        limit = small.madds * budget_ms / took
    chosen = _larger(facts, limit) or _small(facts, limit)
    if budget_ms is None:
        return chosen
    chosen = _within(facts, chosen, budget_ms, dataset, say)
    if chosen.name == FINER:  # which gains fewer pixels for a time than for multiply-adds
        small = _within(facts, fitted(facts, SMALL, "", limit), budget_ms, dataset, say)
        is_fast = small.ms is not None and small.ms <= budget_ms
        if is_fast and chosen.scale < _WORTHWHILE * small.scale:
            return small
    return chosen


def _small(facts: Survey, limit: float) -> Candidate:
    """The model from random weights: `SMALL`, or `FINER` where small objects need its pixels."""
    small, finer = (fitted(facts, name, "", limit) for name in (SMALL, FINER))
    side = small_side(facts)
    if small.madds > limit:
        why = f"{SMALL} is above the budget at any size"
    elif small.scale * side < TIGHT_SIDE and finer.scale >= _WORTHWHILE * small.scale:
        why = (
            f"within the budget small objects would have {small.scale * side:.0f} pixels in "
            f"{SMALL}, which hardly finds any below {TIGHT_SIDE:.0f}, and have "
            f"{finer.scale * side:.0f} here"
        )
    else:
        return small
    reason = f"{why}; this one needs a third of its multiply-adds for a pixel (docs/data.md)"
    return dataclasses.replace(finer, reason=reason)


def _larger(facts: Survey, limit: float) -> Candidate | None:
    """The largest model with weights that is worth its cost; None where the small one is better."""
    rare = typical_count(facts) < FEW_OBJECTS
    wanted = fitted(facts, SMALL, "", math.inf)
    if not rare and limit < _SPARE * wanted.madds:
        return None
    here = [fitted(facts, name, kind, limit) for name in LARGER if (kind := weights_here(name))]
    options = [one for one in here if one.madds <= limit]
    full = [one for one in options if one.canvas == wanted.canvas]
    if full:
        best = max(full, key=lambda one: one.madds)
        why = "the largest that sees images of this size within the budget"
    elif rare and options:
        best = max(options, key=lambda one: one.scale)
        why = "the one that sees the largest images within the budget"
    else:
        return None
    reason = (
        f"of the models whose weights are on this machine, {why}; a typical class has "
        f"{typical_count(facts):.0f} objects"
    )
    if rare:
        reason += f", and below {FEW_OBJECTS} weights from other images gain most"
    return dataclasses.replace(best, reason=reason)


def helpful_download(facts: Survey, limit: float) -> catalog.Entry | None:
    """Published weights that are not here, of the first model that fits the budget."""
    for name in LARGER:
        entry = catalog.find(name, catalog.IMAGENET) or catalog.find(name, catalog.COCO)
        is_new = entry is not None and not cache.place_of(entry).exists()
        if is_new and fitted(facts, name, "", limit).madds <= limit:
            return entry
    return None


def typical_count(facts: Survey) -> float:
    present = facts.objects_of_class[facts.objects_of_class > 0]
    return float(np.median(present)) if len(present) else 0.0


def small_side(facts: Survey) -> float:
    """Side of a square, in pixels of the images, that counts as small in this data set.

    A tenth of all objects are smaller, or half of a class that is not rare: where most objects are
    large red cells, platelets count nevertheless.
    """
    sizes = np.sqrt(facts.sides.prod(axis=1))
    found = [float(np.quantile(sizes, 0.1))]
    for label in np.flatnonzero(facts.objects_of_class >= max(20, 0.01 * facts.num_objects)):
        found.append(float(np.median(sizes[facts.labels == label])))
    return max(1.0, min(found))


def fitted(facts: Survey, name: str, weights: str, limit: float) -> Candidate:
    """A model with the canvas that small objects want, or the largest one that costs no more."""
    wanted = min(1.0, WANTED_SIDE / small_side(facts))
    canvas = _canvas(facts, wanted)
    madds = _cost(name, len(facts.class_names), canvas)
    scale = wanted
    while madds > limit and max(canvas) > _LEAST_CANVAS:
        scale *= min(0.97, math.sqrt(limit / madds))
        canvas = _canvas(facts, scale)
        madds = _cost(name, len(facts.class_names), canvas)
    scale = float(np.median(facts.scales(canvas)))
    reason = (
        "the small detector with the highest AP for its cost that starts from random weights "
        "(docs/results.md)"
    )
    return Candidate(name, canvas, madds, weights, reason, scale, len(facts.class_names))


def _canvas(facts: Survey, scale: float) -> tuple[int, int]:
    """(height, width) for images scaled so, in whole cells of the coarse levels."""
    height, width = np.median(facts.image_sizes, axis=0)
    is_wide = facts.image_sizes[:, 1] > facts.image_sizes[:, 0]
    is_high = facts.image_sizes[:, 1] < facts.image_sizes[:, 0]
    if min(is_wide.mean(), is_high.mean()) > 0.2:  # both ways up: a square holds either
        height = width = np.median(facts.image_sizes.max(axis=1))
    floor = _LEAST_CANVAS / max(height, width)
    sides = [max(1, round(side * max(scale, floor) / _CELL)) * _CELL for side in (height, width)]
    return sides[0], sides[1]


_PER_PIXEL: dict[tuple[str, int], float] = {}


def _cost(name: str, num_classes: int, canvas: tuple[int, int]) -> float:
    """Multiply-adds for an image; they grow with its pixels, so that a model is counted once."""
    key = (name, num_classes)
    if key not in _PER_PIXEL:
        size = registry.config(name).image_size
        config = registry.config(name, num_classes=num_classes)
        macs = profiling.profile_config(name, config, size).macs
        _PER_PIXEL[key] = macs / math.prod(size)
    return _PER_PIXEL[key] * math.prod(canvas)


def _within(
    facts: Survey,
    model: Candidate,
    budget_ms: float,
    dataset: DetectionDataset,
    say: Callable[[str], None],
) -> Candidate:
    """The model at a size at which it takes no longer than the budget, as measured."""
    for _ in range(_TRIES):
        took = latency.milliseconds(_built(model), _samples(dataset, model))
        say(f"{model.name} at {_shown(model.canvas)} takes {took:.1f} ms here")
        model = dataclasses.replace(model, ms=took)
        if took <= budget_ms or max(model.canvas) <= _LEAST_CANVAS:
            return model
        limit = model.madds * min(0.9, budget_ms / took)
        smaller = fitted(facts, model.name, model.weights, limit)
        model = dataclasses.replace(smaller, reason=model.reason)
    took = latency.milliseconds(_built(model), _samples(dataset, model))
    return dataclasses.replace(model, ms=took)


def _built(model: Candidate) -> Any:
    changes = {"num_classes": model.num_classes, "image_size": list(model.canvas)}
    return registry.create(model.name, **changes)


def _samples(dataset: DetectionDataset, model: Candidate) -> list[Any]:
    batches = pipeline.eval_batches(dataset, model.canvas, 1)
    return [images for images, _ in batches.take(latency.SAMPLES)]


def _shown(canvas: Sequence[int]) -> str:
    return f"{canvas[0]}x{canvas[1]}"
