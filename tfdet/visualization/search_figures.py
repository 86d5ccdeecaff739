"""The figures of a search: scores over its generations, and AP over cost."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tfdet.visualization import draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Sequence[tuple[float, float]]

_COLOURS = ("tab:grey", "tab:orange", "tab:red", "tab:green", "tab:purple")
_MARKERS = "ov^sPXD<>"


def draw_scores(path: pathlib.Path, points: Mapping[str, Points], best: Points) -> None:
    """Writes a PNG of scores over generations.

    Args:
        path: of the file.
        points: (generation, score) of the candidates, by kind of action.
        best: (generation, best score so far).
    """
    axis, save = _figure("generation", "score")
    for (kind, rows), colour in zip(points.items(), _COLOURS, strict=False):
        if rows:
            x, y = zip(*rows, strict=True)
            axis.scatter(x, y, s=28, color=colour, label=kind, alpha=0.8, zorder=3)
    axis.step(*zip(*best, strict=True), where="post", color="tab:blue", label="best so far")
    axis.axhline(1.0, color="black", linewidth=0.8, linestyle="--", label="base")
    axis.xaxis.get_major_locator().set_params(integer=True)
    save(path)


def draw_front(
    path: pathlib.Path,
    points: Mapping[str, Points],
    front: Points,
    stars: Mapping[str, tuple[float, float]],
) -> None:
    """Writes a PNG of AP over multiply-adds in G.

    Args:
        path: of the file.
        points: (multiply-adds, AP) of the candidates, by image size.
        front: those of the Pareto front.
        stars: single points by their names: the base first, then the best.
    """
    axis, save = _figure("multiply-adds of an image (G)", "AP")
    for (size, rows), marker in zip(points.items(), _MARKERS, strict=False):
        x, y = zip(*rows, strict=True)
        axis.scatter(x, y, s=26, marker=marker, alpha=0.6, label=size)
    axis.step(*zip(*front, strict=True), where="post", color="tab:blue", linewidth=1, label="front")
    for (name, point), colour in zip(stars.items(), ("black", "tab:red"), strict=True):
        axis.scatter(*point, s=170, marker="*", color=colour, label=name, zorder=4)
    save(path)


def _figure(x: str, y: str) -> tuple[Axes, Callable[[pathlib.Path], None]]:
    """Axes of an empty picture, and a function that writes it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(alpha=0.3)

    def save(path: pathlib.Path) -> None:
        figure.legend(loc="outside right upper", fontsize=8)
        draw.save_figure(path, figure)

    return axis, save
