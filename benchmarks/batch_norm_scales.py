"""How large the scales of batch norms are: |gamma| in the backbones of trained detectors.

    python -m benchmarks.batch_norm_scales --figure=scales.png --output=scales.json \\
        "no L1=runs/base_plain" "L1=runs/base" "found=runs/search/student_0029"

Joint-DetNAS trains with an L1 term on these scales (`train.gamma_l1`) and prunes the channels where
they are small, see its supplement. Each training folder has a name in front of it; the backbone is
a ResNet. Prints a Markdown table. The figure has the distribution of all scales, and in ascending
order those of the channels that can be removed, as `tfdet-search` ranks them.
"""

import argparse
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure

from tfdet import files
from tfdet.backbones.encoding import Encoding
from tfdet.errors import UserError
from tfdet.nas.channel_pruning import importance, spaces
from tfdet.nas.weights import Weights, model_encoding, take_weights
from tfdet.training import trained
from tfdet.visualization import draw

# Published: the share of channels that an action of the search removes.
_PRUNED = 0.1
_SMALL = 0.1


def measured(name: str, model_dir: str, which: Literal["best", "last"]) -> dict[str, Any]:
    """The scales of a training folder, see `facts`, and what it was trained with."""
    model = trained.load_trained(model_dir, which)
    recipe = trained.trained_recipe(model_dir)
    found = facts(model_encoding(model), take_weights(model))
    return {"name": name, "gamma_l1": recipe.train.additions["gamma_l1"], **found}


def facts(encoding: Encoding, weights: Weights) -> dict[str, Any]:
    """|gamma| of a backbone.

    Returns:
        "scales": of all channels of all batch norms, ascending; "prunable": of the units that can
        be removed, ascending; "stages": {"1": {"inner": mean, "output": mean}, ...} of the latter,
        the output that of the projections, where the stage has one.
    """
    gammas = [
        np.abs(value).ravel()
        for name, value in weights.items()
        if name.startswith("backbone/") and name.endswith("/gamma")
    ]
    units: dict[str, dict[str, list[np.ndarray]]] = {}
    for space in spaces(encoding):
        kind = "inner" if space.conv else "output"
        own = units.setdefault(str(space.place.stage), {}).setdefault(kind, [])
        own.append(importance(space, weights))
    every = [values for stage in units.values() for rows in stage.values() for values in rows]
    return {
        "scales": _ascending(gammas),
        "prunable": _ascending(every),
        "stages": {
            stage: {kind: round(float(np.concatenate(x).mean()), 4) for kind, x in kinds.items()}
            for stage, kinds in units.items()
        },
    }


def _ascending(parts: Sequence[np.ndarray]) -> list[float]:
    return [round(float(value), 5) for value in np.sort(np.concatenate(parts))]


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table with a row for each detector."""
    heads = ["", "L1", "channels", f"below {_SMALL:g}", "median", f"{_PRUNED:.0%} prunable below"]
    stages = sorted({stage for row in rows for stage in row["stages"]})
    heads += [f"stage {stage}: inner, output" for stage in stages]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        scales = np.array(row["scales"])
        cells = [
            *(row["name"], f"{row['gamma_l1']:g}", str(len(scales))),
            *(f"{np.mean(scales < _SMALL):.1%}", f"{np.median(scales):.3f}"),
            f"{np.quantile(row['prunable'], _PRUNED):.3f}",
        ]
        for stage in stages:
            means = row["stages"].get(stage, {})
            values = (means.get(kind) for kind in ("inner", "output"))
            cells.append(", ".join("-" if x is None else f"{x:.2f}" for x in values))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draws the distribution of all scales, and the prunable ones in ascending order."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = np.linspace(0, max(row["scales"][-1] for row in rows) or 1.0, 51)
    for number, row in enumerate(rows):
        color, label = f"C{number}", row["name"]
        weight = np.full(len(row["scales"]), 1 / len(row["scales"]))
        left.hist(row["scales"], edges, weights=weight, histtype="step", color=color, label=label)
        count = len(row["prunable"])
        right.plot((np.arange(count) + 0.5) / count, row["prunable"], color=color, label=label)
    right.axvline(_PRUNED, color="grey", linestyle=":", linewidth=1)
    left.set(xlabel="|gamma| of the backbone's batch norms", ylabel="share of the channels")
    right.set(xlabel="share of the prunable channels", ylabel="|gamma|", ylim=(0, None))
    for axes in (left, right):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    draw.save_figure(path, figure)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", help="NAME=FOLDER that tfdet-train wrote")
    parser.add_argument("--figure", type=pathlib.Path, required=True, help="PNG file")
    parser.add_argument("--output", type=pathlib.Path, help="JSON file for the scales")
    parser.add_argument("--which", choices=("best", "last"), default="last", help="weights")
    options = parser.parse_args(argv)
    if any("=" not in word for word in options.folders):
        parser.error("each folder needs a name in front of it, such as L1=runs/base")
    pairs = [word.split("=", 1) for word in options.folders]
    try:
        rows = [measured(name, folder, options.which) for name, folder in pairs]
    except UserError as error:
        raise SystemExit(f"benchmarks.batch_norm_scales: {error}") from None
    for path in (options.figure, *([options.output] if options.output else [])):
        path.parent.mkdir(parents=True, exist_ok=True)
    picture(options.figure, rows)
    if options.output:
        files.write_text(options.output, json.dumps(rows) + "\n")
    print(page(rows))


if __name__ == "__main__":
    main()
