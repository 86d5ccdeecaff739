"""The figure of AP against the cost of a dynamic detector."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfdet.evaluation import coco
from tfdet.printable import counted, printable
from tfdet.visualization import draw as draw_lib


def draw(result: Mapping[str, Any], path: str | pathlib.Path) -> None:
    """Writes the figure: AP against mean cost and against mean latency."""
    import matplotlib.pyplot as plt

    curve = result["curve"]
    panels = [("macs", 1e-9, "multiply-adds per image (G)"), ("latency_ms", 1.0, "ms per image")]
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 4.4))
    for axis, (key, unit, label) in zip(axes, panels, strict=True):
        x = unit * np.array([row[key] for row in curve])
        of_masks = (coco.MASK + "AP", "-", "router, AP of the masks")
        if "AP_random" in curve[0]:  # of a cascade
            ends = [100 * curve[0]["AP"], 100 * curve[-1]["AP"]]
            axis.plot(x[[0, -1]], ends, ":", color="gray", label="interpolated")
        for name, style, words in (
            ("AP_oracle", "--", "oracle: who gains most in loss"),
            ("AP_random", "-.", "random routing"),
            ("AP", "-", "router"),
            *([of_masks] if of_masks[0] in curve[0] else []),
        ):
            y = [100 * row[name] for row in curve if name in row]
            if y:
                mark = "o" if name == "AP" else None
                axis.plot(x, y, style, marker=mark, markersize=4, label=words)
        for row, at in list(zip(curve, x, strict=True))[::2]:
            place = (at, 100 * row["AP"])
            words = f"{100 * row['share']:.0f} %"
            axis.annotate(words, place, (3, -11), textcoords="offset points", size=8)
        axis.set(xlabel=label, ylabel="AP")
        axis.grid(alpha=0.3)
        if key == "macs" and "static" in result:
            static = [(unit * s["macs"], 100 * s["AP"]) for s in result["static"].values()]
            axis.plot(*zip(*static, strict=True), "s", color="black", label="static detectors")
    axes[0].legend(fontsize=8)
    share = "hard images" if "AP_random" in curve[0] else "what can be skipped that was computed"
    title = f"{printable(result['data'])}, {counted(result['images'], 'image')}; percent: {share}"
    figure.suptitle(title, parse_math=False)  # a name may hold dollars
    figure.tight_layout()
    draw_lib.save_figure(path, figure)
    plt.close(figure)
