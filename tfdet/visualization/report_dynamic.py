"""What the report has of dynamic detectors: trade-off, costs, scores, routes, easy, hard images."""

from collections.abc import Mapping
from typing import Any

from tfdet.visualization import page, plots
from tfdet.visualization import report_tables as tables
from tfdet.visualization.markup import Markup, element
from tfdet.visualization.page import Picture, Section, note
from tfdet.visualization.plots import Series
from tfdet.visualization.report_pictures import NUM_ROUTED, Gallery, side_by_side


def sections(figures: Mapping[str, Any], gallery: Gallery, routes: Picture | None) -> list[Section]:
    """Sections of the page; none of a static detector.

    Args:
        figures: of the report.
        gallery: of the same analysis.
        routes: the figure of a CADDet's routes.
    """
    if "dynamic" not in figures:
        return []
    facts = figures["dynamic"]
    found = [Section("effort", "Costs and scores of the router", _costs(facts))]
    if "tradeoff" in facts:
        found.insert(0, Section("tradeoff", "Trade-off", _tradeoff(facts["tradeoff"])))
    if routes is not None:
        found.append(Section("routes", "Routes", [page.figure(routes.words, routes)]))
    return [*found, Section("ends", "Easiest and hardest images", _ends(facts, gallery))]


def _tradeoff(result: Mapping[str, Any]) -> list[Markup | None]:
    curve = result["curve"]
    axes = {"macs": (1e-9, "G multiply-adds per image"), "latency_ms": (1.0, "ms per image")}
    charts = [_chart(result, key, unit, label) for key, (unit, label) in axes.items()]
    names = {"AP": "AP", "AP50": "AP50", "AP_random": "AP, random", "AP_oracle": "AP, oracle"}
    columns = [key for key in names if key in curve[0]]
    rows = [
        [
            f"{100 * row['share']:.0f} %",
            f"{row['threshold']:.4f}",
            _aligned(row["macs"] / 1e9),
            _aligned(row["latency_ms"]),
            *(tables.percent(row[key]) for key in columns),
        ]
        for row in curve
    ]
    head = ["share", "threshold", "G multiply-adds", "ms", *(names[key] for key in columns)]
    return [
        note(
            "AP over what an image costs on average. The share is that of the images that took the "
            "expensive path, or of what can be skipped that was computed."
        ),
        element("div", *charts, class_="plots"),
        page.table(head, rows, "numbers"),
    ]


def _aligned(value: float) -> str:
    """Four digits, also where the last ones are zeros."""
    return f"{value:#.4g}".rstrip(".")


def _chart(result: Mapping[str, Any], key: str, unit: float, label: str) -> Markup:
    curve = result["curve"]
    x = [unit * row[key] for row in curve]
    lines = {"AP": ("router", "s1"), "AP_random": ("random", "s4"), "AP_oracle": ("oracle", "s3")}
    series = [
        Series(words, x, [100 * row[name] for row in curve], style, is_marked=name == "AP")
        for name, (words, style) in lines.items()
        if name in curve[0]
    ]
    if "AP_random" in curve[0]:
        ends = [100 * curve[0]["AP"], 100 * curve[-1]["AP"]]
        series.insert(0, Series("interpolated", [x[0], x[-1]], ends, "s0"))
    values = [y for one in series for y in one.y if y is not None]
    room = max(0.05 * (max(values) - min(values)), 0.5)
    return plots.lines(
        series,
        label,
        "AP",
        f"AP over {label}",
        (min(x), max(x)),
        (max(0.0, min(values) - room), max(values) + room),
    )


def _costs(facts: Mapping[str, Any]) -> list[Markup | None]:
    words = f"An image costs {facts['macs'] / 1e9:.4g} G multiply-adds on average"
    words += f", at a threshold of {facts['threshold']:g}"
    if "share" in facts:
        words += f"; {100 * facts['share']:.1f} % of the images are hard"
    edges = [x / 1e9 for x in facts["costs"]["edges"]]
    charts = [
        plots.columns(
            edges, facts["costs"]["count"], "G multiply-adds", "images", "costs of the images"
        )
    ]
    if "scores" in facts:
        scores = facts["scores"]
        charts.append(
            plots.columns(
                scores["edges"],
                scores["count"],
                scores["name"],
                "images",
                f"{scores['name']} of the images",
                marked_x=facts["threshold"],
            )
        )
    hint = "" if "tradeoff" in facts else " tfdet-eval --tradeoff adds AP over costs."
    return [
        note(f"{words}.{hint}"),
        element("div", *charts, class_="plots"),
        tables.group_table("images", facts["by_cost"]),
    ]


def _ends(facts: Mapping[str, Any], gallery: Gallery) -> list[Markup | None]:
    content: list[Markup | None] = [
        note("Left the truth, right the detections, as among the worst images.")
    ]
    for key, title in (("easiest", "Easiest"), ("hardest", "Hardest")):
        rows = facts[key][:NUM_ROUTED]
        positions = gallery.positions(rows)
        captions = dict(zip(positions, map(_caption, rows), strict=True))
        shown = [side_by_side(one, captions[one.position]) for one in gallery.shown(positions)]
        content += [element("h3", title), element("div", *shown, class_="gallery")]
    return content


def _caption(row: Mapping[str, Any]) -> str:
    score = f", score {row['score']:.3f}" if "score" in row else ""
    return f"{row['image']}: {row['macs'] / 1e9:.4g} G multiply-adds{score}"
