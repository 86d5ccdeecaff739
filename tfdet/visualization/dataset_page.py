"""A data set on one page: pictures with their boxes, what is in it, and what is wrong with it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfdet.data import loader
from tfdet.data.dataset import DetectionDataset
from tfdet.data.problems import with_details
from tfdet.data.survey import Survey
from tfdet.printable import counted
from tfdet.version import __version__
from tfdet.visualization import draw, page, plots
from tfdet.visualization.markup import Markup, element
from tfdet.visualization.page import Picture, Section
from tfdet.visualization.plots import Stack

_SIDE = 420  # pixels of the longer side of a picture
_MOST_ROWS = 1000  # classes
_STYLES = ("s1", "s2", "s3", "s4", "s5", "s6", "s7")
# What report.css lacks: more colours for levels, and rows of pictures.
_STYLE = """
.bar.s3 { fill: var(--s3); } .bar.s4 { fill: var(--s4); } .bar.s5 { fill: #c2a018; }
.bar.s6 { fill: #c9457c; } .bar.s7 { fill: #3aa6b5; } .bar.s0 { fill: var(--soft); }
.key.s5 { border-color: #c2a018; } .key.s6 { border-color: #c9457c; }
.key.s7 { border-color: #3aa6b5; } .key { border-top-width: 4px; }
.key.s0 { border-top-style: solid; }
.pictures { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); }
.pictures img { width: 100%; }
.found { margin: 0 0 1.25rem; } .found ul { margin: .2rem 0 .6rem; padding-left: 1.2rem; }
.found li { overflow-wrap: anywhere; }
"""


@dataclasses.dataclass(frozen=True)
class Levels:
    """A detector beside the data.

    Attributes:
        name: of the model.
        image_size: (height, width) of its input.
        guides: (level, pixels per cell, words) of each level.
        ratios: width / height of its anchors.
        sizes, levels: [T] of objects on the canvas, and the level that learns each (-1 for none);
            None where what a level learns is chosen during training.
        report: sentences about what the levels learn.
    """

    name: str
    image_size: tuple[int, int]
    guides: Sequence[tuple[str, int, str]]
    ratios: Sequence[float]
    sizes: np.ndarray | None
    levels: np.ndarray | None
    report: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Shown:
    """A picture with what stands below it."""

    picture: Picture
    caption: str


def pictures(dataset: DetectionDataset, positions: Sequence[int]) -> list[Shown]:
    """Images with their boxes; those that cannot be read are left out."""
    images = loader.ImageLoader(dataset)
    found = []
    for position in positions:
        image = images.load(int(position))
        if image is None:
            continue
        rows = dataset.rows(int(position))
        canvas, scale = page.fitted(image, _SIDE)
        labels = dataset.labels[rows]
        drawn = draw.draw_boxes(canvas, dataset.boxes[rows] * scale, labels, dataset.class_names)
        height, width = image.shape[:2]
        objects = counted(len(labels), "object")
        name = str(dataset.names[position])
        words = f"{name}: {width} x {height}, {objects}"
        found.append(Shown(page.encoded(drawn, words), words))
    return found


def batch_pictures(
    images: np.ndarray, boxes: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> list[Shown]:
    """The images of a batch with their targets.

    Args:
        images: [B, H, W, 3], 0-255.
        boxes: [B, M, 4] in pixels.
        labels: [B, M]; -1 for padding.
        class_names: by label.
    """
    found = []
    for image, own, kinds in zip(images, boxes, labels, strict=True):
        canvas, scale = page.fitted(np.clip(image, 0, 255).astype(np.uint8), _SIDE)
        drawn = draw.draw_boxes(canvas, own * scale, kinds, class_names)
        words = counted(int((kinds >= 0).sum()), "object")
        found.append(Shown(page.encoded(drawn, words), words))
    return found


def dataset_page(
    report: Mapping[str, Any],
    facts: Survey,
    shown: Sequence[Shown],
    damaged: Mapping[str, Sequence[Shown]],
    levels: Levels | None = None,
    batch: tuple[str, Sequence[Shown]] | None = None,
) -> str:
    """The page as HTML.

    Args:
        report: of `data.check.check`.
        facts: of the same data set.
        shown: a sample of its images.
        damaged: kind of problem -> images that have it.
        levels: a detector beside the data.
        batch: a sentence about a training batch, and its images.
    """
    sections = [
        Section("pictures", "Pictures", _pictures(facts, shown)),
        Section("classes", "Classes", _classes(facts)),
        Section("sizes", "Sizes and shapes", _sizes(facts, levels)),
        Section("crowding", "Objects per image", _crowding(facts)),
        Section("check", "What the check found", _problems(report, damaged)),
    ]
    if batch is not None:
        words, images = batch
        content = [page.note(words), _gallery(images)]
        sections.insert(1, Section("batch", "A training batch", content))
    return page.document(
        report["data"],
        report["data"],
        _header(report, facts),
        sections,
        f"Written by tfdet-data view of tfdet {__version__}.",
        _STYLE,
    )


def _header(report: Mapping[str, Any], facts: Survey) -> list[Markup]:
    empty = int((facts.objects_per_image == 0).sum())
    shown = [
        (f"{facts.num_images:,}", "images"),
        (f"{facts.num_objects:,}", "objects"),
        (f"{len(facts.class_names):,}", "classes"),
        (f"{empty:,}", "images without objects"),
        (f"{report['damaged']:,}", "problems that lose something"),
    ]
    assumed = [page.note("Assumed: ", "; ".join(report["assumed"]))] if report["assumed"] else []
    return [*assumed, page.tiles(shown)]


def _gallery(images: Sequence[Shown]) -> Markup:
    each = [page.figure(one.caption, one.picture) for one in images]
    return element("div", *each, class_="pictures")


def _pictures(facts: Survey, shown: Sequence[Shown]) -> list[Markup]:
    words = f"{len(shown)} of {facts.num_images:,} images"
    if len(shown) < facts.num_images:
        words += ", chosen at random; classes with few images come first"
    return [page.note(f"{words}."), _gallery(shown)]


def _classes(facts: Survey) -> list[Markup]:
    order = np.argsort(-facts.objects_of_class, kind="stable")
    most = int(facts.objects_of_class.max(initial=1))
    areas = np.sqrt(facts.sides.prod(axis=1))
    rows = []
    for label in order[:_MOST_ROWS].tolist():
        own = areas[facts.labels == label]
        rows.append(
            [
                page.class_name(label, facts.class_names[label]),
                f"{facts.objects_of_class[label]:,}",
                page.meter(facts.objects_of_class[label], most),
                f"{facts.images_of_class[label]:,}",
                f"{np.median(own):.0f}" if len(own) else "–",
            ]
        )
    words = []
    nothing = int((facts.objects_of_class == 0).sum())
    if nothing:
        words.append(f"{nothing} of the classes {'have' if nothing > 1 else 'has'} no object.")
    if len(order) > _MOST_ROWS:
        words.append(f"The {_MOST_ROWS} most frequent of {len(order)} classes.")
    head = ["class", "objects", "", "images", "median size (pixels)"]
    listed = element("div", page.table(head, rows, "numbers classes"), class_="wide tall")
    return [*([page.note(" ".join(words))] if words else []), listed]


def _sizes(facts: Survey, levels: Levels | None) -> list[Markup]:
    if not facts.num_objects:
        return [page.note("There are no objects.")]
    canvas = levels.image_size if levels else None
    sides = np.maximum(facts.object_sides(canvas), 0.01)
    sizes, ratios = np.sqrt(sides.prod(axis=1)), sides[:, 1] / sides[:, 0]
    where = "of the images"
    if levels:
        height, width = levels.image_size
        where = f"where {levels.name} sees them, in {width} x {height}"
    words = (
        f"The size of an object is the square root of its area, in pixels {where}: "
        f"half of them have {np.median(sizes):.0f} or less, one in twenty "
        f"{np.quantile(sizes, 0.05):.0f} or less, one in twenty {np.quantile(sizes, 0.95):.0f} or "
        "more."
    )
    drawn = element("div", _size_plot(sizes, levels), _ratio_plot(ratios, levels), class_="plots")
    parts = [page.note(words), drawn, *(_levels(levels) if levels else [])]
    return [*parts, element("h3", "Sizes of the images"), _image_sizes(facts)]


def _size_plot(sizes: np.ndarray, levels: Levels | None) -> Markup:
    """Columns of half an octave; of the levels that learn the objects, where these are known."""
    stacks = [("objects", sizes, "s1")]
    if levels and levels.sizes is not None and len(levels.sizes):
        sizes = np.maximum(levels.sizes, 0.01)
        stacks = [
            (f"P{level}", sizes[levels.levels == level], _STYLES[(level - 2) % len(_STYLES)])
            for level in sorted(set(levels.levels.tolist()) - {-1})
        ]
        stacks.append(("no level", sizes[levels.levels == -1], "s0"))
    low = math.floor(2 * math.log2(max(1.0, sizes.min())))
    high = max(low + 1, math.ceil(2 * math.log2(max(1.0, sizes.max())) + 1e-9))
    edges = 2.0 ** (np.arange(low, high + 1) / 2)
    edges[0] = 0.0
    labels = [f"{2 ** (k / 2):.0f}" for k in range(low, high)]
    bars = [
        Stack(name, np.histogram(own, edges)[0].tolist(), style)
        for name, own, style in stacks
        if len(own) or name == "objects"
    ]
    return plots.stacked(
        labels, bars, "size in pixels, from", "objects", "sizes of the objects by level"
    )


def _ratio_plot(ratios: np.ndarray, levels: Levels | None) -> Markup:
    """Columns of a third of an octave, with the anchors' shapes marked in their labels."""
    steps = np.arange(-9, 10)
    centers = 2.0 ** (steps / 3)
    nearest = np.clip(np.round(3 * np.log2(ratios)), steps[0], steps[-1]).astype(int)
    counts = np.bincount(nearest - steps[0], minlength=len(steps))
    anchored = set()
    for ratio in levels.ratios if levels else ():
        anchored.add(int(np.clip(round(3 * math.log2(ratio)), steps[0], steps[-1])))
    near = [int(n) if s in anchored else 0 for s, n in zip(steps, counts, strict=True)]
    rest = [int(n) - a for n, a in zip(counts, near, strict=True)]
    used = np.flatnonzero(counts)
    shown = slice(int(used.min()), int(used.max()) + 1)
    labels = [_ratio(center) for center in centers[shown]]
    stacks = [Stack("objects", rest[shown], "s1")]
    if anchored:
        stacks = [
            Stack("shape of an anchor", near[shown], "s2"),
            Stack("between the anchors", rest[shown], "s1"),
        ]
    return plots.stacked(labels, stacks, "width / height", "objects", "shapes of the objects")


def _ratio(value: float) -> str:
    return f"{value:.2g}" if value >= 1 else f"1/{1 / value:.2g}"


def _levels(levels: Levels) -> list[Markup]:
    lines = [page.note(sentence) for sentence in levels.report]
    if not levels.guides:
        return lines
    rows = [[level, f"{stride} pixels", words] for level, stride, words in levels.guides]
    return [*lines, page.table(["level", "cells", "made for"], rows)]


def _image_sizes(facts: Survey) -> Markup:
    sizes, counts = np.unique(facts.image_sizes, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:8]
    rows = [
        [f"{sizes[i][1]} x {sizes[i][0]}", f"{counts[i]:,}", page.meter(counts[i], counts.max())]
        for i in order.tolist()
    ]
    if len(sizes) > len(rows):
        rest = int(counts.sum() - counts[order].sum())
        words = f"{len(sizes) - len(rows):,} other sizes"
        rows.append([words, f"{rest:,}", page.meter(rest, counts.max())])
    return page.table(["width x height", "images", ""], rows, "numbers")


def _crowding(facts: Survey) -> list[Markup]:
    per_image = facts.objects_per_image
    most = int(per_image.max(initial=0))
    words = (
        f"{per_image.mean():.1f} on average, at most {most}. Training takes the first "
        "data.max_boxes of an image (100 by default)."
    )
    width = max(1, math.ceil((most + 1) / 20))
    starts = range(0, most + 1, width)
    counts = np.bincount(per_image // width, minlength=len(starts)).tolist()
    labels = [f"{a}" if width == 1 else f"{a}–{a + width - 1}" for a in starts]
    plot = plots.stacked(
        labels, [Stack("images", counts, "s1")], "objects", "images", "objects per image"
    )
    return [page.note(words), element("div", plot, class_="plots")]


def _problems(report: Mapping[str, Any], damaged: Mapping[str, Sequence[Shown]]) -> list[Markup]:
    if not report["problems"]:
        return [page.note("Nothing is wrong with it.")]
    parts = []
    for kind, entry in report["problems"].items():
        has_more = entry["count"] > len(entry["examples"])
        names = [element("li", name) for name in entry["examples"]]
        more = [element("li", "…")] if has_more else []
        title = element("h3", with_details(entry))
        listed = element("ul", *names, *more)
        images = [_gallery(damaged[kind])] if damaged.get(kind) else []
        parts.append(
            element("div", title, page.note(entry["action"]), listed, *images, class_="found")
        )
    return parts
