"""The tables of the report: COCO's numbers, classes, errors, the confusion matrix, groups."""

from collections.abc import Mapping, Sequence
from typing import Any

from tfdet.evaluation import coco, error_kinds
from tfdet.visualization.markup import Markup, element
from tfdet.visualization.page import class_name, meter, swatch, table
from tfdet.visualization.plots import short

NONE = "–"
KINDS = {
    "class": "the place is right, the class is wrong",
    "location": "the class is right, the box fits badly (IoU 0.1 to 0.5)",
    "both": "a wrong class, and a box that fits badly",
    "duplicate": "the object was found already, by a surer detection",
    "background": "there is no object (IoU below 0.1)",
    "missed": "an object that no detection is near enough to",
    "false positive": "all wrong detections together",
    "false negative": "all objects that were not found together",
}
_SHADES = 10
_NUMBERS_UP_TO = 30  # classes: in larger matrices a cell shows its count when it is pointed at


def percent(value: float | None) -> str:
    """A number from 0 to 1 in percent; a dash where there is none."""
    return NONE if value is None or value < 0 else f"{100 * value:.1f}"


def coco_table(metrics: Mapping[str, float]) -> Markup:
    """COCO's twelve numbers, of boxes and, where there are any, of masks."""
    has_masks = coco.MASK + "AP" in metrics
    head = ["", "boxes", "masks"] if has_masks else ["", "boxes"]
    rows = []
    for name, note in coco.METRICS.items():
        values = [metrics[name], metrics[coco.MASK + name]] if has_masks else [metrics[name]]
        rows.append([name, *map(percent, values), element("span", note, class_="note")])
    return table([*head, ""], rows, "numbers")


def worst_first(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Labels and rows of the classes by their AP; those without objects are last."""
    return sorted(enumerate(rows), key=lambda pair: (not pair[1]["objects"], pair[1]["AP"]))


def class_table(rows: Sequence[tuple[int, Mapping[str, Any]]]) -> Markup:
    """For each label and its row: the objects of the class, its AP and its best threshold."""
    head = ["class", "objects", "AP", "", "AP50", "AP75", "best threshold", "F1", "precision"]
    cells = []
    for label, row in rows:
        best = row["best"] or {}
        names = ("f1", "precision", "recall")
        cells.append(
            [
                class_name(label, row["class"]),
                f"{row['objects']:,}",
                percent(row["AP"]),
                meter(row["AP"]),
                percent(row["AP50"]),
                percent(row["AP75"]),
                f"{best['threshold']:.3f}" if best else NONE,
                *(percent(best.get(name)) for name in names),
            ]
        )
    return table([*head, "recall"], cells, "numbers classes")


def error_table(errors: Mapping[str, Any]) -> Markup:
    """What mending each kind of error would add to AP50, and how many there are."""
    gains, sure, every = errors["gains"], errors["at_threshold"], errors["all"]
    most = max([*(gains.get(kind, 0) for kind in error_kinds.KINDS), 1e-9])
    rows = []
    for kind, words in KINDS.items():
        gain = gains.get(kind)
        is_single = kind in error_kinds.KINDS
        rows.append(
            [
                kind,
                NONE if gain is None else f"+{100 * gain:.1f}",
                meter(gain or 0, most) if is_single else "",
                f"{sure[kind]:,}" if is_single else "",
                f"{every[kind]:,}" if is_single else "",
                element("span", words, class_="note"),
            ]
        )
    head = ["kind of error", "AP50 if mended", "", "at the threshold", "at any score", ""]
    return table(head, rows, "numbers")


def group_table(what: str, rows: Sequence[Mapping[str, Any]]) -> Markup:
    """AP of groups of objects or images."""
    has_images = any("images" in row for row in rows)
    cells = [
        [
            row["group"],
            percent(row["AP"]),
            meter(row["AP"]),
            percent(row["AP50"]),
            f"{row['objects']:,}",
            *([f"{row['images']:,}"] if has_images else []),
        ]
        for row in rows
    ]
    head = [what, "AP", "", "AP50", "objects", *(["images"] if has_images else [])]
    return table(head, cells, "numbers")


def confusion_table(confusion: Mapping[str, Any]) -> Markup:
    """The matrix, true classes down and detected ones across, shaded by the part of the row.

    Names of rows and columns stay in view where the table is moved.
    """
    names, matrix = confusion["classes"], confusion["matrix"]
    is_small = len(names) <= _NUMBERS_UP_TO + 1
    corner = element("th", "true / detected", class_="corner")
    head = [element("th", element("span", name), scope="col", title=name) for name in names]
    rows = [element("tr", corner, *head)]
    for i, (name, counts) in enumerate(zip(names, matrix, strict=True)):
        total = max(sum(counts), 1)
        spot = swatch(i) if i < len(names) - 1 else None
        cells = [
            _cell(count / total, count, i == j, f"{name} → {names[j]}", is_small)
            for j, count in enumerate(counts)
        ]
        label = element("span", spot, name, class_="name")
        rows.append(element("tr", element("th", label, scope="row", title=name), *cells))
    kind = "matrix" if is_small else "matrix dense"
    whole = element("table", *rows, class_=kind)
    return element("div", whole, class_="wide tall", tabindex="0")


def _cell(part: float, count: int, is_right: bool, words: str, shows_number: bool) -> Markup:
    if not count:
        return element("td")
    shade = max(1, round(_SHADES * part))
    text = f"{count}" if shows_number else f"{100 * part:.0f}"
    title = f"{words}: {count:,} ({100 * part:.1f} % of the row)"
    return element("td", text, class_=f"{'r' if is_right else 'w'}{shade}", title=title)


def confused_table(rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    """The classes that are most often taken for each other."""
    if not rows:
        return None
    cells = [[row["true"], row["detected"], short(row["count"])] for row in rows]
    return table(["true class", "detected as", "times"], cells, "names")
