"""Sets trained CADDets side by side: precision, cost and how different their routes are.

    python -m benchmarks.caddet_routes runs/caddet_scale_aware runs/caddet_fixed \\
        runs/caddet_no_router --data=shapes:val --output=benchmarks/figures/caddet_routes.json

Prints a Markdown row per training folder. A cost is that of backbone and neck; "pairs differ" is in
how many gates two images differ on average; the correlations are of an image's cost with its graded
difficulty.
"""

import argparse
import json
import pathlib
from typing import Any

import tfdet
from benchmarks import timing
from tfdet import files
from tfdet.evaluation import coco, routes
from tfdet.training import trained

HEAD = (
    "| budget | seed | AP | AP50 | cost (M) | std | least to most | routes | pairs differ | open | "
    "dead | Pearson | Spearman |"
)


def measured(model_dir: str, data: str, which: str, batch: int) -> dict[str, Any]:
    """What one training folder came to on a data set."""
    model = trained.load_trained(model_dir, which)
    recipe = trained.trained_recipe(model_dir)
    evaluation = coco.Evaluation(model, tfdet.open_dataset(data), batch)
    metrics = evaluation.run().result()
    return {
        "model_dir": model_dir,
        "weights": trained.weights_file(model_dir, which).name,
        "budget": budget_in_words(model.config),
        "seed": recipe.train.seed,
        "metrics": {name: metrics[name] for name in coco.METRICS},
        **routes.facts_of(model, evaluation),
    }


def budget_in_words(config: Any) -> str:
    loss = config.routing_loss
    if not config.supernet.routers:
        return "no routers"
    local = "" if loss.local_weight else ", no path similarity"
    return f"{loss.strategy.replace('_', '-')} {loss.budget:g}{local}"


def row(facts: dict[str, Any]) -> str:
    macs = {name: f"{value / 1e6:.2f}" for name, value in facts["macs"].items()}
    graded = facts["correlation"].get("difficulty", {"pearson": None, "spearman": None})
    cells = [
        facts["budget"],
        facts["seed"],
        *(f"{100 * facts['metrics'][name]:.1f}" for name in ("AP", "AP50")),
        macs["mean"],
        macs["std"],
        f"{macs['min']} to {macs['max']}",
        facts["routes"],
        f"{facts['hamming']:.2f} of {facts['gates']}",
        *(f"{100 * facts[name]:.0f} %" for name in ("open_gates", "dead_gates")),
        *("-" if value is None else f"{value:+.2f}" for value in graded.values()),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dirs", nargs="+", help="folders that tfdet-train wrote")
    parser.add_argument("--data", default="shapes:val")
    parser.add_argument("--which", choices=("best", "last"), default="last", help="weights")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--output", type=pathlib.Path, help="JSON file for the figures")
    options = parser.parse_args()
    found = []
    print(f"{HEAD}\n|{'---|' * HEAD.count(' | ')}---|")
    for model_dir in options.model_dirs:
        found.append(measured(model_dir, options.data, options.which, options.batch))
        print(row(found[-1]), flush=True)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        figures = {"data": options.data, "machine": timing.machine(), "runs": found}
        files.write_text(options.output, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
