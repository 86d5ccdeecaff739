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
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import yaml

from tfdet.data import loader, sources
from tfdet.data.dataset import DetectionDataset
from tfdet.data.survey import Survey, survey
from tfdet.errors import UserError
from tfdet.serving.batches import default_batch_size
from tfdet.training import suggested_model
from tfdet.training.level_report import LevelReport, level_report
from tfdet.training.suggested_model import Candidate
from tfdet.weights import catalog

_MADDS_OF_CPU, _MADDS_OF_GPU = 0.7e9, 50e9  # without a budget
_IMAGES_FROM_RANDOM, _IMAGES_FROM_WEIGHTS = 30_000, 10_000  # that are seen in a training
_LEAST_EPOCHS, _MOST_EPOCHS = 12, 300
_WARMUP_STEPS = 100
_CACHED_BYTES = 2 << 30
_ANCHOR_SCALES = (4.0, 3.0, 2.5, 2.0, 1.5, 5.0, 6.0)  # the published one first
_COMMON_WORDS = re.compile(
    r"(train|trainval|val|valid|test)\d*|json|yaml|data|annotations|instances"
)
_REACHES = (0.0, 4.0, 6.0, 8.0, 2.0)


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
        say: gets a sentence for each thing that is done.
    """
    say(f"Reading {spec}")
    train, val = _data(spec)
    dataset = sources.read_source(train)
    loader.check_usable(dataset)
    facts = survey(dataset)
    if not facts.num_objects:
        raise UserError(f"{train} has no objects but crowds; nothing can be suggested for it")
    device = "a GPU" if tf.config.list_physical_devices("GPU") else "no GPU"
    say(f"Comparing models ({os.cpu_count()} cores and {device} here)")
    limit = budget_madds or (_MADDS_OF_GPU if device == "a GPU" else _MADDS_OF_CPU)
    model = suggested_model.choose(facts, limit, budget_ms, dataset, say)
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
    notes = _notes(facts, model, val, limit)
    is_slow = budget_ms is not None and model.ms is not None and model.ms > budget_ms
    if is_slow or (budget_ms is None and model.madds > limit):
        notes.append("The budget is below what the smallest model costs at the smallest size.")
    return Suggestion(title, tuple(choices), tuple(notes))


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


# Levels


def _levels(model: Candidate, dataset: DetectionDataset) -> list[Choice]:
    """The key that decides which objects a level learns, as the data wants it.

    Weights of a whole detector have their own anchors, and no others are taken with them.
    """
    if model.weights == catalog.COCO:
        return []
    is_points = model.name == suggested_model.SMALL
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


def _training(facts: Survey, model: Candidate, canvas: tuple[int, int]) -> list[Choice]:
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
        Choice("train.warmup_init", float(f"{rate / 10:.3g}"), "a tenth of the rate"),
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


def _why_size(facts: Survey, model: Candidate, given: str) -> str:
    side = suggested_model.small_side(facts)
    words = (
        f"{_giga(model.madds)} for an image"
        + (f", {model.ms:.1f} ms measured here" if model.ms is not None else "")
        + f"; small objects (a tenth of all, or half of a class) have up to {side:.0f} pixels in "
        f"their images, {side * model.scale:.0f} here"
    )
    if side * model.scale < min(side, suggested_model.WANTED_SIDE) - 2:
        return f"{words}, fewer than the {suggested_model.WANTED_SIDE:.0f} wanted, within {given}"
    if model.scale > 0.99:
        return f"{words}: images are not enlarged"
    return f"{words}, as wanted ({suggested_model.WANTED_SIDE:.0f})"


def _notes(facts: Survey, model: Candidate, val: str | None, limit: float) -> list[str]:
    found = []
    if val is None:
        found.append("There is no validation data: no AP is measured; give --val_data=...")
    if model.scale * suggested_model.small_side(facts) < suggested_model.LEAST_SIDE:
        found.append(
            "Small objects have fewer than 8 pixels at this size and will hardly be found; a "
            "larger budget helps."
        )
    count = suggested_model.typical_count(facts)
    if not model.weights and count < suggested_model.FEW_OBJECTS:
        entry = suggested_model.helpful_download(facts, limit)
        if entry is not None:
            found.append(
                f"A typical class has {count:.0f} objects, so that published weights would help: "
                f"`tfdet-weights fetch {entry.name}`, then suggest again."
            )
    unknown = int((facts.objects_of_class == 0).sum())
    if unknown:
        found.append(f"{unknown} of the classes have no object in the training data.")
    return found


def _giga(madds: float) -> str:
    return f"{madds / 1e9:.2g} G multiply-adds"


def model_dir_of(spec: str) -> str:
    """A name for the folder of a training on a data set."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", spec) if word]
    plain = [word for word in words[1:] if not _COMMON_WORDS.fullmatch(word)]
    return f"runs/{(plain or words[:1] or ['mine'])[-1].lower()}"
