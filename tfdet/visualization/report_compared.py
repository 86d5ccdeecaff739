"""The part of the report that compares two detectors."""

from collections.abc import Mapping, Sequence
from typing import Any

from tfdet.evaluation import coco, error_kinds
from tfdet.visualization import page
from tfdet.visualization import report_tables as tables
from tfdet.visualization.markup import Markup, element
from tfdet.visualization.page import Section, note
from tfdet.visualization.report_pictures import Gallery

NUM_SHOWN = 6  # images with more, and with fewer mistakes


def section(figures: Mapping[str, Any], gallery: Gallery, other: Gallery) -> Section:
    """Which objects only one of two detectors finds, and where their mistakes differ most.

    Args:
        figures: as `report.json` has them, with "compared".
        gallery: of the detector of the report.
        other: of the one that it is compared with.
    """
    compared = figures["compared"]
    content = [
        note(
            f"“This” is the detector of the report, “other” the one of {compared['with']}, on the "
            "same images. Objects, errors and mistakes are counted at the best threshold of each: "
            f"{figures['threshold']:.3f} of this, {compared['threshold']:.3f} of the other. "
            "The difference is this minus other."
        ),
        element("div", _numbers(figures), _errors(figures), class_="beside"),
        element("h3", "Objects that were found"),
        note("Classes whose AP is farthest below the other's come first."),
        _objects(compared),
        *_images("More mistakes than the other", compared["worse"], gallery, other),
        *_images("Fewer mistakes than the other", compared["better"], gallery, other),
    ]
    return Section("compared", "Comparison", content)


def _difference(own: float | None, others: float | None) -> str:
    """Of two numbers from 0 to 1, in percent."""
    if own is None or others is None or min(own, others) < 0:
        return tables.NONE
    return f"{100 * (own - others):+.1f}"


def _numbers(figures: Mapping[str, Any]) -> Markup:
    own, others = figures["metrics"], figures["compared"]["metrics"]
    rows = [
        [
            name,
            tables.percent(own[name]),
            tables.percent(others[name]),
            _difference(own[name], others[name]),
        ]
        for name in coco.METRICS
    ]
    return page.table(["", "this", "other", "difference"], rows, "numbers")


def _errors(figures: Mapping[str, Any]) -> Markup:
    own, others = figures["errors"]["at_threshold"], figures["compared"]["errors"]
    rows = [
        [kind, f"{own[kind]:,}", f"{others[kind]:,}", f"{own[kind] - others[kind]:+,}"]
        for kind in error_kinds.KINDS
    ]
    return page.table(["kind of error", "this", "other", "difference"], rows, "numbers")


def _objects(compared: Mapping[str, Any]) -> Markup:
    sides = ("both", "only_this", "only_other", "neither")
    every = ["all", *("" for _ in range(3)), *(f"{compared['objects'][key]:,}" for key in sides)]
    rows = [
        [
            row["class"],
            tables.percent(row["AP"]),
            tables.percent(row["other_AP"]),
            _difference(row["AP"], row["other_AP"]),
            *(f"{row[key]:,}" for key in sides),
        ]
        for row in compared["classes"]
    ]
    head = ["class", "AP", "other AP", "difference"]
    return page.table(
        [*head, "by both", "by this alone", "by the other alone", "by neither"],
        [every, *rows],
        "numbers classes",
    )


def _images(
    title: str, rows: Sequence[Mapping[str, Any]], gallery: Gallery, other: Gallery
) -> list[Markup]:
    """Some images, each with the detections of both; nothing where there are none."""
    rows = rows[:NUM_SHOWN]
    if not rows:
        return []
    positions = gallery.positions(rows)
    facts = dict(zip(positions, rows, strict=True))
    figures = []
    for own, others in zip(gallery.shown(positions), other.shown(positions), strict=True):
        row = facts[own.position]
        words = f"{row['image']}: {row['mistakes']} mistakes, the other {row['other_mistakes']}"
        pictures = (own.truth, own.detections, others.detections)
        figures.append(page.figure(words, *pictures, class_="trio"))
    return [
        element("h3", title),
        note(
            "In this order: the truth, this detector, the other. Dashed: objects that this one "
            "does not find, and wrong detections."
        ),
        element("div", *figures, class_="gallery"),
    ]
