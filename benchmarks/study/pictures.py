"""The pictures of a study's page, drawn from its rows."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from benchmarks.study import columns, statistics
from benchmarks.study.plan import Study
from tfdet import files
from tfdet.data import decode, sources
from tfdet.errors import UserError

Rows = Sequence[Mapping[str, Any]]
_SHOWN = 8
_COLORS = colormaps["tab20"]


def names(study: Study, rows: Rows) -> dict[str, str]:
    """The pictures that the rows have, by name of the file, and what each shows."""
    found = {f"{study.name}.png": f"{columns.words(study.columns[0])} of each run"}
    if any(map(_has_routes, rows)):
        found[f"{study.name}_routes.png"] = (
            "share of the images for which a node is open, by layer and scale, mean over the seeds"
        )
    if any("gains" in row for row in rows):
        found[f"{study.name}_gains.png"] = (
            "what each validation image gains in loss from the second detector, all seeds"
        )
    if any(_is_pictured(study, row) for row in rows):
        found[f"{study.name}_gallery.png"] = (
            "the images that a router finds easiest (above) and hardest (below) in each arm"
        )
    return found


def draw(study: Study, rows: Rows, folder: pathlib.Path) -> None:
    """Draws the pictures of `names` into a folder."""
    chosen = names(study, rows)
    _save(_scores(study, rows), folder / f"{study.name}.png")
    for kind, make in (("routes", _routes), ("gains", _gains), ("gallery", _gallery)):
        path = folder / f"{study.name}_{kind}.png"
        if path.name in chosen:
            figure = make(study, rows)
            if figure is not None:
                _save(figure, path)


def _save(figure: Figure, path: pathlib.Path) -> None:
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": None})


def _title(study: Study, arm: str) -> str:
    """The title of an arm as a picture has it, without Markdown."""
    return study.arms[arm].title.replace("`", "")


def _scores(study: Study, rows: Rows) -> Figure:
    """The first column of each run: over the column `figure`, or arm by arm."""
    first = study.columns[0]
    arms = [name for name in study.arms if statistics.values(rows, name, first)]
    tall = 4.2 if study.figure else 1.0 + 0.42 * len(arms)
    figure = Figure(figsize=(10 if study.figure else 7.5, tall), layout="constrained")
    axes = figure.add_subplot()
    for number, name in enumerate(arms):
        ys, color = statistics.values(rows, name, first), _COLORS(number % _COLORS.N)
        mean, title = statistics.mean_and_spread(ys)[0], _title(study, name)
        if study.figure:
            xs = statistics.values(rows, name, study.figure)
            axes.plot(list(xs.values()), [ys[s] for s in xs], "o", color=color, alpha=0.4)
            middle = statistics.mean_and_spread(xs)[0]
            axes.plot([middle], [mean], "D", color=color, label=title)
        else:
            axes.plot(list(ys.values()), [number] * len(ys), "o", color=color, alpha=0.5)
            axes.plot([mean], [number], "|", color=color, markersize=18)
    if study.figure:
        axes.set(xlabel=columns.words(study.figure), ylabel=columns.words(first))
        figure.legend(fontsize=8, loc="outside right upper")
    else:
        axes.set_yticks(range(len(arms)), [_title(study, name) for name in arms], fontsize=8)
        axes.set(xlabel=columns.words(first), ylim=(len(arms) - 0.5, -0.5))
    axes.grid(alpha=0.3)
    return figure


def _routes(study: Study, rows: Rows) -> Figure:
    """A map per arm: how often each node of the grid is open."""
    arms = [a for a in study.arms if any(row["arm"] == a and _has_routes(row) for row in rows)]
    across = min(3, len(arms))
    down = -(-len(arms) // across)
    figure = Figure(figsize=(3.6 * across, 1.9 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    for panel in panels.flat[len(arms) :]:
        panel.set_axis_off()
    for panel, arm in zip(panels.flat, arms, strict=False):
        nodes = [x for r in rows if r["arm"] == arm and "routes" in r for x in r["routes"]["nodes"]]
        layers, scales = (1 + max(node[key] for node in nodes) for key in ("layer", "scale"))
        plane = np.full((scales, layers), np.nan)
        for node in nodes:
            place = node["scale"], node["layer"]
            same = [x["open"] for x in nodes if (x["scale"], x["layer"]) == place]
            plane[place] = np.mean(same)
        image = panel.imshow(plane, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        panel.set_title(_title(study, arm), fontsize=7)
        panel.set_yticks(range(scales), [f"P{3 + scale}" for scale in range(scales)], fontsize=7)
        panel.tick_params(axis="x", labelsize=7)
        panel.set_xlabel("layer", fontsize=7)
    figure.colorbar(image, ax=panels, shrink=0.6)
    return figure


def _has_routes(row: Mapping[str, Any]) -> bool:
    """Whether a row is of a grid with routers: one without is open everywhere."""
    return "routes" in row and any(node["open"] < 1 for node in row["routes"]["nodes"])


def _is_pictured(study: Study, row: Mapping[str, Any]) -> bool:
    """Whether the gallery shows images of a row."""
    return "easiness" in row and row["arm"] not in study.unpictured


def _gains(study: Study, rows: Rows) -> Figure:
    """A histogram of the differences of both losses for each arm."""
    arms = [a for a in study.arms if any(row["arm"] == a and "gains" in row for row in rows)]
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    gains = {a: np.concatenate([r["gains"] for r in rows if r["arm"] == a]) for a in arms}
    low, high = np.quantile(np.concatenate(list(gains.values())), (0.01, 0.99))
    for number, (arm, values) in enumerate(gains.items()):
        axes.hist(
            np.clip(values, low, high), np.linspace(low, high, 41), histtype="step",
            color=f"C{number % 10}", label=_title(study, arm),
        )  # fmt: skip
        axes.axvline(np.median(values), color=f"C{number % 10}", linestyle=":")
    axes.set(xlabel="loss of the first detector minus loss of the second", ylabel="images")
    axes.legend(fontsize=8)
    return figure


def _gallery(study: Study, rows: Rows) -> Figure | None:
    """The easiest and the hardest images of each arm's first seed; None where there are no data."""
    first = {row["arm"]: row for row in reversed(rows) if _is_pictured(study, row)}
    arms = [arm for arm in study.arms if arm in first]
    figure = Figure(figsize=(1.5 * _SHOWN, 3.3 * len(arms)), layout="constrained")
    panels = figure.subplots(2 * len(arms), _SHOWN, squeeze=False)
    for number, arm in enumerate(arms):
        try:
            dataset = sources.open_dataset(study.recipes(arm, first[arm]["seed"])[-1].data.val)
        except UserError as error:
            print(f"no gallery of {study.name}: {error}", flush=True)
            return None
        order = np.argsort(first[arm]["easiness"], kind="stable")
        chosen = (order[::-1][:_SHOWN], order[:_SHOWN])
        for row, indices in enumerate(chosen):
            for panel, index in zip(panels[2 * number + row], indices, strict=False):
                panel.imshow(decode.decode_image(dataset.encoded(int(index))))
                panel.set_title(f"{first[arm]['easiness'][index]:.2f}", fontsize=7)
        panels[2 * number][0].set_title(f"{_title(study, arm)}\n", fontsize=8, loc="left")
    for panel in panels.flat:
        panel.set_axis_off()
    return figure
