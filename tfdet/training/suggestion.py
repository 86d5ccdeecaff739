"""A recipe for a data set, each of its values with a sentence of reason.

What is chosen among is small on purpose: detectors whose small recipes are measured in
docs/results.md. `fcos-nano` learns from random weights; EfficientDets start from published weights,
and only from those that are on this machine already.
"""

import dataclasses
import math
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import yaml

from tfdet import profiling, records, registry
from tfdet.data import loader, pipeline, sources
from tfdet.data.dataset import DetectionDataset
from tfdet.data.survey import Survey, survey
from tfdet.errors import UserError
from tfdet.serving.batches import default_batch_size
from tfdet.training import latency
from tfdet.training.level_report import LevelReport, level_report
from tfdet.weights import cache, catalog

SMALL = "fcos-nano"
LARGER = tuple(
    f"efficientdet-{scale}" for scale in ("lite0", "lite1", "lite2", "d0", "d1", "d2", "d3")
)
_MADDS_OF_CPU, _MADDS_OF_GPU = 0.7e9, 50e9  # without a budget
_WANTED_SIDE = 24.0  # pixels of small objects on the canvas: three cells of the finest level
_LEAST_SIDE = 8.0  # one cell
_LEAST_CANVAS = 128
_CELL = 32
# Of a class: with fewer, weights from ImageNet gain more than anything else (docs/results.md).
_FEW_OBJECTS = 200
_SPARE = 3.0  # times the cost of the small model: what a budget must allow for a larger one
_IMAGES_FROM_RANDOM, _IMAGES_FROM_WEIGHTS = 30_000, 10_000  # that are seen in a training
_LEAST_EPOCHS, _MOST_EPOCHS = 12, 300
_WARMUP_STEPS = 100
_CACHED_BYTES = 2 << 30
_ANCHOR_SCALES = (4.0, 3.0, 2.5, 2.0, 1.5, 5.0, 6.0)  # the published one first
_REACHES = (0.0, 4.0, 6.0, 8.0, 2.0)
_TRIES = 4  # to come below a time


@dataclasses.dataclass(frozen=True)
class Choice:
    """A value of a recipe and why it was chosen.

    Attributes:
        key: dotted, such as "train.batch_size".
        value: as YAML has it.
        reason: a sentence.
    """

    key: str
    value: Any
    reason: str


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A recipe.

    Attributes:
        title: what it is for, in a sentence.
        choices: in the order of the recipe; those of a section stand together.
        notes: what else the user should know.
    """

    title: str
    choices: tuple[Choice, ...]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The choices for people, a line each, and the notes."""
        shown = [f"{one.key}: {_yaml(one.value)}  ({one.reason})" for one in self.choices]
        return [self.title, *(f"  {line}" for line in shown), *self.notes]

    def recipe(self, command: str) -> str:
        """The recipe as YAML, with the reasons as comments; `command` trains it."""
        lines = [*_comment(self.title), f"#   {command}"]
        for sentence in self.notes:
            lines += _comment(sentence)
        opened: list[str] = []
        for one in self.choices:
            *sections, name = one.key.split(".")
            for depth, section in enumerate(sections):
                if opened[: depth + 1] != sections[: depth + 1]:
                    lines.append(f"{'  ' * depth}{section}:")
            opened = sections
            indent = "  " * len(sections)
            lines += [f"{indent}{line}" for line in _comment(one.reason, 96 - len(indent))]
            lines.append(f"{indent}{name}: {_yaml(one.value)}")
        return "\n".join(lines) + "\n"


def _comment(text: str, width: int = 96) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, width, break_on_hyphens=False)]


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


def suggest(
    spec: str,
    budget_madds: float | None = None,
    budget_ms: float | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Suggestion:
    """Looks at a data set and at this machine, and suggests a recipe.

    Args:
        spec: of the training data, as `sources.open_dataset` takes it.
        budget_madds: multiply-adds of the detector for one image, at most.
        budget_ms: milliseconds of the detector for one image on this machine, in Python, at most.
        say: is told what is done.
    """
    say(f"Reading {spec}")
    train, val = _data(spec)
    dataset = sources.read_source(train)
    loader.check_usable(dataset)
    facts = survey(dataset)
    device = "a GPU" if tf.config.list_physical_devices("GPU") else "no GPU"
    say(f"Comparing models ({os.cpu_count()} cores and {device} here)")
    limit = budget_madds or (_MADDS_OF_GPU if device == "a GPU" else _MADDS_OF_CPU)
    model = _choose_model(facts, limit, budget_ms, dataset, say)
    canvas = model.canvas
    if budget_ms is not None:
        given = f"the budget of {budget_ms:g} ms"
    elif budget_madds is not None:
        given = f"the budget of {_giga(budget_madds)}"
    else:
        given = f"{_giga(limit)}, which is taken where no budget is given and there is {device}"
    say(f"Assigning objects to the levels of {model.name}")
    choices = [
        Choice("model.name", model.name, model.reason),
        Choice("model.image_size", list(canvas), _why_size(facts, model, given)),
        *_levels(model, dataset),
        *_data_choices(facts, train, val, dataset),
        *_training(facts, model, canvas),
    ]
    title = (
        f"Suggested for {train}: {facts.num_images:,} images, {facts.num_objects:,} objects of "
        f"{len(facts.class_names)} classes."
    )
    return Suggestion(title, tuple(choices), tuple(_notes(facts, model, val, limit)))


# Data


def _data(spec: str) -> tuple[str, str | None]:
    """Specs of the training and of the validation data that belong to a spec."""
    for word, others in (("trainval", ("test", "val")), ("train", ("val", "valid", "test"))):
        if word in spec:
            before, _, after = spec.rpartition(word)
            options = [f"{before}{other}{after}" for other in others]
            options += [spec.replace(word, other) for other in others]
            val = next(filter(_opens, dict.fromkeys(options)), None)
            if val:
                return spec, val
    if spec == "shapes":
        return "shapes:train", "shapes:val"
    if not spec.startswith(("shapes", "tfrecord")) and _opens(f"{spec}:val"):
        return f"{spec}:train", f"{spec}:val"
    return spec, None


def _opens(spec: str) -> bool:
    try:
        return len(sources.read_source(spec)) > 0
    except UserError:
        return False


def _data_choices(
    facts: Survey, train: str, val: str | None, dataset: DetectionDataset
) -> list[Choice]:
    found = [Choice("data.train", train, "; ".join(dataset.assumed) or "as given")]
    if val:
        found.append(
            Choice("data.val", val, "found beside the training data; AP is measured on it")
        )
    low, high = (0.8, 1.25) if facts.num_images >= 1000 else (0.7, 1.4)
    words = "many images need little" if facts.num_images >= 1000 else "few images need some"
    found.append(
        Choice(
            "data.augment",
            {"jitter_min": low, "jitter_max": high},
            f"{words} variety of scale; images are mirrored too",
        )
    )
    most = int(facts.objects_per_image.max(initial=0))
    if most > 100:
        found.append(
            Choice("data.max_boxes", most, f"an image has {most} objects; 100 are kept by default")
        )
    size = 3 * int(dataset.sizes.astype(np.int64).prod(axis=1).sum())
    if size <= _CACHED_BYTES:
        words = f"all images decoded take {size / 2**30:.2f} GiB of memory"
        found.append(Choice("data.cache", True, words))
    return found


# Model


@dataclasses.dataclass(frozen=True)
class _Model:
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
        config = records.replace(registry.config(self.name), {**base, **changes}, "model")
        return registry.detector_class(self.name).from_record(config, self.name)


def weights_here(name: str) -> str:
    """The kind of published weights of a model that are in the cache: coco, imagenet or ""."""
    for kind in (catalog.COCO, catalog.IMAGENET):
        entry = catalog.find(name, kind)
        if entry is not None and cache.place_of(entry).exists():
            return kind
    return ""


def _choose_model(
    facts: Survey,
    limit: float,
    budget_ms: float | None,
    dataset: DetectionDataset,
    say: Callable[[str], None],
) -> _Model:
    small = _fitted(facts, SMALL, "", math.inf)
    if budget_ms is not None:
        # What the small model does in a millisecond stands for all; the chosen one is timed itself.
        took = latency.milliseconds(_built(small), _samples(dataset, small))
        say(f"{SMALL} at {_shown(small.canvas)} takes {took:.1f} ms here")
        limit = small.madds * budget_ms / took
    small = _fitted(facts, SMALL, "", limit)
    chosen = _larger(facts, limit) or small
    if budget_ms is not None:
        chosen = _within(facts, chosen, budget_ms, dataset, say)
    return chosen


def _larger(facts: Survey, limit: float) -> _Model | None:
    """The largest model with weights that is worth its cost; None where the small one is better."""
    rare = _typical_count(facts) < _FEW_OBJECTS
    wanted = _fitted(facts, SMALL, "", math.inf)
    if not rare and limit < _SPARE * wanted.madds:
        return None
    options = [_fitted(facts, name, kind, limit) for name in LARGER if (kind := weights_here(name))]
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
        f"{_typical_count(facts):.0f} objects"
    )
    if rare:
        reason += f", and below {_FEW_OBJECTS} weights from other images gain most"
    return dataclasses.replace(best, reason=reason)


def _typical_count(facts: Survey) -> float:
    present = facts.objects_of_class[facts.objects_of_class > 0]
    return float(np.median(present)) if len(present) else 0.0


def _small_side(facts: Survey) -> float:
    """Side of a square, in pixels of the images, that counts as small in this data set.

    A tenth of all objects are smaller, or half of a class that is not rare: where most objects are
    large red cells, platelets count nevertheless.
    """
    sizes = np.sqrt(facts.sides.prod(axis=1))
    found = [float(np.quantile(sizes, 0.1))]
    for label in np.flatnonzero(facts.objects_of_class >= max(20, 0.01 * facts.num_objects)):
        found.append(float(np.median(sizes[facts.labels == label])))
    return max(1.0, min(found))


def _fitted(facts: Survey, name: str, weights: str, limit: float) -> _Model:
    """A model with the canvas that small objects want, or the largest one that costs no more."""
    wanted = min(1.0, _WANTED_SIDE / _small_side(facts))
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
    return _Model(name, canvas, madds, weights, reason, scale, len(facts.class_names))


def _canvas(facts: Survey, scale: float) -> tuple[int, int]:
    """(height, width) for images scaled so, in whole cells of the coarse levels."""
    height, width = np.median(facts.image_sizes, axis=0)
    is_wide = facts.image_sizes[:, 1] > facts.image_sizes[:, 0]
    is_high = facts.image_sizes[:, 1] < facts.image_sizes[:, 0]
    if min(is_wide.mean(), is_high.mean()) > 0.2:  # both ways up: a square holds either
        height = width = max(height, width)
    floor = _LEAST_CANVAS / max(height, width)
    sides = [max(1, round(side * max(scale, floor) / _CELL)) * _CELL for side in (height, width)]
    return sides[0], sides[1]


_PER_PIXEL: dict[tuple[str, int], float] = {}


def _cost(name: str, num_classes: int, canvas: tuple[int, int]) -> float:
    """Multiply-adds for an image; they grow with its pixels, so that a model is counted once."""
    key = (name, num_classes)
    if key not in _PER_PIXEL:
        size = registry.config(name).image_size
        config = records.replace(registry.config(name), {"num_classes": num_classes}, "model")
        macs = profiling.profile_config(name, config, size).macs
        _PER_PIXEL[key] = macs / math.prod(size)
    return _PER_PIXEL[key] * math.prod(canvas)


def _within(
    facts: Survey,
    model: _Model,
    budget_ms: float,
    dataset: DetectionDataset,
    say: Callable[[str], None],
) -> _Model:
    """The model at a size at which it takes no longer than the budget, as measured."""
    for _ in range(_TRIES):
        took = latency.milliseconds(_built(model), _samples(dataset, model))
        say(f"{model.name} at {_shown(model.canvas)} takes {took:.1f} ms here")
        model = dataclasses.replace(model, ms=took)
        if took <= budget_ms or max(model.canvas) <= _LEAST_CANVAS:
            return model
        limit = model.madds * min(0.9, budget_ms / took)
        smaller = _fitted(facts, model.name, model.weights, limit)
        model = dataclasses.replace(smaller, reason=model.reason)
    took = latency.milliseconds(_built(model), _samples(dataset, model))
    return dataclasses.replace(model, ms=took)


def _built(model: _Model) -> Any:
    changes = {"num_classes": model.num_classes, "image_size": list(model.canvas)}
    return registry.create(model.name, **changes)


def _samples(dataset: DetectionDataset, model: _Model) -> list[Any]:
    batches = pipeline.eval_batches(dataset, model.canvas, 1)
    return [images for images, _ in batches.take(latency.SAMPLES)]


# Levels


def _levels(model: _Model, dataset: DetectionDataset) -> list[Choice]:
    """The key that decides which objects a level learns, as the data wants it."""
    is_points = model.name == SMALL
    key = "loss.reach" if is_points else "anchor_scale"
    tried = []
    for value in _REACHES if is_points else _ANCHOR_SCALES:
        report = level_report(model.detector(**{key: value}), dataset)
        if report is None:
            return []
        tried.append((_misfit(report), value, report))
        if is_points and len(report.lines()) == 1:  # no advice: the first value is fine
            break
    least = min(misfit for misfit, _, _ in tried)
    misfit, value, report = next(x for x in tried if x[0] <= least + 0.01)
    shares = ", ".join(f"{level} {100 * share:.0f} %" for level, share in report.levels.items())
    if is_points:
        how = "0 fits it to the image; " if not value else ""
        words = f"{how}of the objects' positives {shares}"
    else:
        words = (
            f"strides of the smallest anchor: {100 * (1 - misfit):.0f} % of the objects have an "
            f"anchor with an IoU of 0.5; positives {shares}"
        )
    return [Choice(f"model.{key}", value, words)]


def _misfit(report: LevelReport) -> float:
    """Share of objects without a good anchor, or that nothing learns."""
    if report.poor is not None:
        return report.poor / max(report.objects, 1)
    crowded = max(0.0, max(report.levels.values()) - 0.95)
    return report.unlearned / max(report.objects, 1) + crowded


# Training


def _training(facts: Survey, model: _Model, canvas: tuple[int, int]) -> list[Choice]:
    images = facts.num_images
    by_images = 16 if images >= 1000 else 8 if images >= 160 else 4
    batch = max(1, min(by_images, default_batch_size(canvas), images))
    seen = _IMAGES_FROM_WEIGHTS if model.weights else _IMAGES_FROM_RANDOM
    epochs = min(_MOST_EPOCHS, max(_LEAST_EPOCHS, round(seen / images)))
    steps = images // batch
    rate = float(f"{0.003 * math.sqrt(batch / 16):.1g}")
    warmup = round(min(epochs / 10, max(1.0, _WARMUP_STEPS / steps)), 1)
    start = "published weights" if model.weights else "random weights"
    few = "few images: more steps from them" if by_images < 16 else "images enough for it"
    choices = [
        Choice("train.batch_size", batch, few),
        Choice(
            "train.num_epochs",
            epochs,
            f"{epochs * steps:,} steps of {batch}, {epochs * images:,} images: about {seen:,} are "
            f"what a training from {start} needs, and {_LEAST_EPOCHS} to {_MOST_EPOCHS} epochs",
        ),
        Choice("train.optimizer", "adam", "the small recipes of tfdet were measured with it"),
        Choice("train.learning_rate", rate, f"0.003 for 16 images, by the root of {batch}/16"),
        Choice("train.learning_rate_batch", batch, "the rate is meant as it stands"),
        Choice("train.warmup_init", rate / 10, "a tenth of the rate"),
        Choice("train.warmup_epochs", warmup, f"about {_WARMUP_STEPS} steps"),
        Choice(
            "train.ema_decay",
            0.998 if epochs * steps >= 2000 else 0.99,
            "averages of weights over the last part of the training",
        ),
    ]
    if model.weights:
        entry = catalog.find(model.name, model.weights)
        words = f"{entry.name if entry else model.weights}, in the cache; no network is needed"
    else:
        words = "random weights"
    choices.append(Choice("train.pretrained", model.weights, words))
    interval = max(1, round(epochs / 10))
    choices.append(Choice("eval.interval", interval, "about ten measurements"))
    return choices


# Telling


def _why_size(facts: Survey, model: _Model, given: str) -> str:
    side = _small_side(facts)
    words = (
        f"{_giga(model.madds)} for an image"
        + (f", {model.ms:.1f} ms measured here" if model.ms is not None else "")
        + f"; small objects (a tenth of all, or half of a class) have up to {side:.0f} pixels in "
        f"their images, {side * model.scale:.0f} here"
    )
    if side * model.scale < min(side, _WANTED_SIDE) - 2:
        return f"{words}, fewer than the {_WANTED_SIDE:.0f} wanted, within {given}"
    if model.scale > 0.99:
        return f"{words}: images are not enlarged"
    return f"{words}, as wanted ({_WANTED_SIDE:.0f})"


def _notes(facts: Survey, model: _Model, val: str | None, limit: float) -> list[str]:
    found = []
    if val is None:
        found.append("There is no validation data: no AP is measured; give --val_data=...")
    if model.scale * _small_side(facts) < _LEAST_SIDE:
        found.append(
            "Small objects have fewer than 8 pixels at this size and will hardly be found; a larger "
            "budget helps."
        )
    if not model.weights:
        absent = [(name, entry) for name in LARGER if (entry := _downloadable(name)) is not None]
        fitting = [
            (name, entry)
            for name, entry in absent
            if _fitted(facts, name, "", limit).madds <= limit
        ]
        rare = _typical_count(facts) < _FEW_OBJECTS
        if fitting and rare:
            name, entry = fitting[0]
            found.append(
                f"A typical class has {_typical_count(facts):.0f} objects, so that published "
                f"weights would help: `tfdet-weights fetch {entry.name}`, then suggest again "
                f"({name})."
            )
    unknown = int((facts.objects_of_class == 0).sum())
    if unknown:
        found.append(f"{unknown} of the classes have no object in the training data.")
    return found


def _downloadable(name: str) -> catalog.Entry | None:
    if weights_here(name):
        return None
    return catalog.find(name, catalog.IMAGENET) or catalog.find(name, catalog.COCO)


def _giga(madds: float) -> str:
    return f"{madds / 1e9:.2g} G multiply-adds"


def _shown(canvas: Sequence[int]) -> str:
    return f"{canvas[0]}x{canvas[1]}"


def model_dir_of(spec: str) -> str:
    """A name for the folder of a training on a data set."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", spec) if word]
    plain = [word for word in words[1:] if word not in ("train", "val", "json", "yaml")]
    return f"runs/{(plain or words or ['mine'])[-1].lower()}"
