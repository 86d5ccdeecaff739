"""The report as one HTML file that needs nothing else: no network, no script, no other file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfdet.evaluation import error_kinds
from tfdet.evaluation.precision_recall import RECALLS
from tfdet.printable import counted
from tfdet.visualization import page, plots, report_compared, report_dynamic
from tfdet.visualization import report_tables as tables
from tfdet.visualization.markup import Markup, element, joined
from tfdet.visualization.page import Picture, Section, note
from tfdet.visualization.plots import Series, short
from tfdet.visualization.report_pictures import NUM_WORST, Gallery, side_by_side

_CURVES_SHOWN = 12  # classes; the curves of more are folded up


def report_page(
    figures: Mapping[str, Any],
    gallery: Gallery,
    other: Gallery | None = None,
    routes: Picture | None = None,
) -> str:
    """The page as HTML.

    Args:
        figures: as `report.json` has them.
        gallery: of the same analysis.
        other: of the detector that it is compared with.
        routes: the figure of a CADDet's routes.
    """
    sections = [
        Section("numbers", "COCO's numbers", _numbers(figures)),
        *([report_compared.section(figures, gallery, other)] if other else []),
        Section("errors", "Kinds of errors", _errors(figures, gallery)),
        Section("classes", "Classes", _classes(figures)),
        Section("thresholds", "Threshold of the score", _thresholds(figures)),
        Section("confusion", "Confusion matrix", _confusion(figures)),
        Section("reliability", "Reliability of the scores", _reliability(figures)),
        Section("groups", "Size, difficulty, number of objects", _groups(figures)),
        *([Section("masks", "Masks", _masks(figures["masks"]))] if "masks" in figures else []),
        *report_dynamic.sections(figures, gallery, routes),
        Section("worst", "Worst images", _worst(figures, gallery)),
    ]
    return page.document(
        f"{figures['model']} on {figures['data']}",
        figures["model"],
        _header(figures),
        sections,
        f"Written by {figures['written_by']}; the same figures are in report.json.",
    )


def _header(figures: Mapping[str, Any]) -> list[Markup]:
    facts = [
        counted(figures["images"], "image", ","),
        counted(figures["objects"], "object", ","),
        counted(len(figures["classes"]), "class"),
        counted(figures["detections"], "detection", ","),
    ]
    if figures["left_out"]:
        facts.append(f"{figures['left_out']:,} images that cannot be read are left out")
    return [
        element("p", "measured on ", element("b", figures["data"]), ": ", ", ".join(facts)),
        page.tiles(_tiles(figures)),
    ]


def _tiles(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    metrics, best, gains = figures["metrics"], figures["best"], figures["errors"]["gains"]
    shown = [(tables.percent(metrics[name]), name) for name in ("AP", "AP50", "AP75")]
    if "mask/AP" in metrics:
        shown.append((tables.percent(metrics["mask/AP"]), "AP of the masks"))
    if best:
        shown.append((tables.percent(best["f1"]), f"F1 at a score of {best['threshold']:.2f}"))
    if gains:
        worst = max(error_kinds.KINDS, key=lambda kind: gains[kind])
        shown.append((f"+{100 * gains[worst]:.1f}", f"AP50 without the errors of kind “{worst}”"))
    if "dynamic" in figures:
        shown.append((f"{figures['dynamic']['macs'] / 1e9:.3g}", "G multiply-adds per image"))
    return shown


def _numbers(figures: Mapping[str, Any]) -> list[Markup]:
    return [
        note("Average precision and average recall in percent, by COCO's rules."),
        tables.coco_table(figures["metrics"]),
    ]


def _errors(figures: Mapping[str, Any], gallery: Gallery) -> list[Markup | None]:
    if not figures["errors"]["gains"]:
        return [note("There are no objects, so that there is no AP to gain.")]
    best = figures["threshold"]
    return [
        note(
            "What AP50 would gain if this kind of error, and no other, were mended (TIDE). The "
            f"counts are those of detections with a score of {best:.3f} or more, and of all."
        ),
        tables.error_table(figures["errors"]),
        element("h3", "The surest error of each kind"),
        note("Dashed: the object. The surest wrong detections are often errors of the labels."),
        *(_examples(kind, gallery) for kind in error_kinds.KINDS),
    ]


def _examples(kind: str, gallery: Gallery) -> Markup | None:
    shown = [
        page.figure(f"{gallery.name(position)}: {picture.words}", picture)
        for position, picture in gallery.examples(kind)
    ]
    if not shown:
        return None
    title = element("h4", kind, element("span", f" – {tables.KINDS[kind]}", class_="note"))
    return joined(title, element("div", *shown, class_="strip"))


def _classes(figures: Mapping[str, Any]) -> list[Markup | None]:
    rows = tables.worst_first(figures["classes"])
    known = [(label, row) for label, row in rows if row["objects"]]
    lines = [
        element("figure", element("figcaption", page.class_name(label, row["class"])), _curve(row))
        for label, row in known
    ]
    curves: Markup | None = element("div", *lines, class_="plots small")
    if len(known) > _CURVES_SHOWN:
        words = element("summary", f"Precision and recall of {counted(len(known), 'class')}")
        curves = element("details", words, curves)
    return [
        note(
            "The worst class first. The best threshold is the score with the highest F1, at an IoU "
            "of 0.5. Classes without objects have no AP and do not count."
        ),
        tables.class_table(rows),
        element("h3", "Precision over recall") if known else None,
        curves if known else None,
    ]


def _curve(row: Mapping[str, Any], label: str = "precision") -> Markup:
    series = [
        Series("IoU 0.5", RECALLS.tolist(), row["precision50"], "s1"),
        Series("IoU 0.75", RECALLS.tolist(), row["precision75"], "s2"),
    ]
    title = f"precision over recall of {row['class']}"
    return plots.lines(series, "recall", label, title)


def _thresholds(figures: Mapping[str, Any]) -> list[Markup | None]:
    at, best = figures["thresholds"], figures["best"]
    lines = {"precision": ("precision", "s1"), "recall": ("recall", "s2"), "f1": ("F1", "s3")}
    series = [Series(name, at["threshold"], at[key], style) for key, (name, style) in lines.items()]
    words = (
        f"The highest F1 of all classes together is {tables.percent(best['f1'])} at a score of "
        f"{best['threshold']:.3f}: {tables.percent(best['precision'])} % of the detections are "
        f"right, {tables.percent(best['recall'])} % of the objects are found."
        if best
        else "No detection is right, so that no threshold is best."
    )
    plot = plots.lines(
        series, "threshold", "part", "precision, recall and F1", marked_x=figures["threshold"]
    )
    return [note(words), element("div", plot, _mean_curve(figures["classes"]), class_="plots")]


def _mean_curve(rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    known = [row for row in rows if row["objects"]]
    if not known:
        return None
    means = {
        key: np.mean([row[key] for row in known], axis=0).tolist()
        for key in ("precision50", "precision75")
    }
    return _curve({**means, "class": "all classes"}, "precision, mean of the classes")


def _confusion(figures: Mapping[str, Any]) -> list[Markup | None]:
    confusion = figures["confusion"]
    confused = tables.confused_table(confusion["most_frequent"])
    return [
        note(
            f"Detections with a score of {confusion['threshold']:.3f} or more. Rows are true "
            "classes, columns detected ones. The last row: detections without an object; the last "
            "column: objects that were not found. A stronger colour is a larger part of the row."
            + ("" if len(confusion["classes"]) <= 31 else " The numbers are percents of the row.")
        ),
        tables.confusion_table(confusion),
        element("h3", "Most often confused") if confused else None,
        confused,
    ]


def _reliability(figures: Mapping[str, Any]) -> list[Markup | None]:
    facts = figures["reliability"]
    if facts["error"] is None:
        return [note("There are no detections.")]
    known = [i for i, count in enumerate(facts["count"]) if count]
    score, right = ([facts[name][i] for i in known] for name in ("score", "precision"))
    series = [
        Series("as many right as the score promises", [0, 1], [0, 1], "s0"),
        Series("detections", score, right, "s1", is_marked=True),
    ]
    return [
        note(
            "How often detections of a score are right (IoU 0.5). Below the diagonal scores are "
            "too high, above it too low; on average they are "
            f"{tables.percent(facts['error'])} points off."
        ),
        element(
            "div",
            plots.lines(series, "score", "part that is right", "reliability of the scores"),
            plots.columns(
                facts["edges"], facts["count"], "score", "detections", "distribution of the scores"
            ),
            class_="plots",
        ),
    ]


def _groups(figures: Mapping[str, Any]) -> list[Markup | None]:
    names = {
        "by_size": "size of the object",
        "by_difficulty": "difficulty of the image",
        "by_fill": "objects in the image",
    }
    groups = [
        tables.group_table(words, figures[key]) for key, words in names.items() if figures[key]
    ]
    return [
        note(
            "Sizes as COCO has them: small below 32² pixels of the image, large above 96². Groups "
            "of images are measured as data sets of their own."
        ),
        element("div", *groups, class_="beside"),
    ]


def _masks(figures: Mapping[str, Any]) -> list[Markup | None]:
    return [
        note("The same for masks: overlaps are those of the objects' pixels."),
        tables.error_table(figures["errors"]) if figures["errors"]["gains"] else None,
        tables.class_table(tables.worst_first(figures["classes"])),
        tables.group_table("size of the object", figures["by_size"]),
    ]


def _worst(figures: Mapping[str, Any], gallery: Gallery) -> list[Markup | None]:
    rows = figures["worst_images"][:NUM_WORST]
    if not rows:
        return [note("No image has a mistake.")]
    shown = []
    positions = gallery.positions(rows)
    facts = dict(zip(positions, rows, strict=True))
    for one in gallery.shown(positions):
        row = facts[one.position]
        words = f"{row['hits']} right, {row['wrong']} wrong, {row['not_found']} not found"
        shown.append(side_by_side(one, f"{row['image']}: {words}"))
    return [
        note(
            "Left the truth, right the detections with a score of "
            f"{short(figures['threshold'])} or more. Dashed: objects that were not found, and "
            "detections that are wrong, with the kind of the error."
        ),
        element("div", *shown, class_="gallery"),
    ]
