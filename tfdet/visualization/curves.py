"""Losses, scores and learning rates over the epochs of a training run."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfdet.visualization import draw


def draw_history(path: pathlib.Path, history: list[dict[str, float]]) -> None:
    """Draws losses, scores and learning rate over the epochs."""
    losses = [key for key in history[-1] if key == "loss" or key.endswith("_loss")]
    panels = {
        "loss": losses,
        "average precision": ["AP", "AP50", "AP75"],
        "learning rate": ["learning_rate"],
    }
    curves = {title: _curves(names, history) for title, names in panels.items()}
    save(path, {title: lines for title, lines in curves.items() if lines})


def _curves(names: list[str], history: list[dict[str, float]]) -> dict[str, Any]:
    rows = {name: [row for row in history if name in row] for name in names}
    return {
        name: ([row["epoch"] for row in found], [row[name] for row in found])
        for name, found in rows.items()
        if found
    }


def save(path: str | pathlib.Path, panels: Mapping[str, Mapping[str, tuple[Any, Any]]]) -> None:
    """Writes a PNG with one plot per panel below each other.

    Args:
        panels: title -> curve name -> (x values, y values); x is the epoch.
    """
    # Not pyplot: it keeps every figure in a global list and chooses a backend for the process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(len(panels), 1, sharex=True))
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for name, (x, y) in curves.items():
            axis.plot(x, y, marker="o" if len(x) <= 30 else None, markersize=3, label=name)
        axis.set_title(title, loc="left", fontsize=11)
        axis.grid(alpha=0.3)
        if curves:
            axis.legend(fontsize=8)
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    draw.save_figure(path, figure)
