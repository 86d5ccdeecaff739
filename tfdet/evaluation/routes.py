"""How different the routes are that a CADDet takes through its grid, and what they depend on."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfdet.backbones.grid import SupernetConfig
from tfdet.data.dataset import DetectionDataset
from tfdet.detectors.caddet import CADDet
from tfdet.evaluation import coco
from tfdet.losses.routing_budget import RoutingLossConfig


def facts_of(model: CADDet, evaluation: coco.Evaluation) -> dict[str, Any]:
    """`route_facts` of a CADDet on the data set that `coco.Evaluation` has run it on."""
    reports = evaluation.routes
    compared = traits_of(model, evaluation)
    return route_facts(model.config.supernet, reports[model.score], reports["macs"], compared)


def traits_of(model: CADDet, evaluation: coco.Evaluation) -> dict[str, np.ndarray]:
    """`traits` of the images that `coco.Evaluation` has run a CADDet on."""
    config, index = model.config, evaluation.routes["index"]
    return traits(evaluation.dataset, index, model.image_size, config.routing_loss)


def route_facts(
    config: SupernetConfig, gates: np.ndarray, macs: np.ndarray, traits: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Numbers about the routes of a data set's images, ready for JSON.

    Args:
        config: of the grid.
        gates: [N, gates], 0 where closed.
        macs: [N], the cost of each image.
        traits: what the costs are compared with by name, [N] each.

    Returns:
        "macs": "mean", "std", "min" and "max". "routes": how many different sets of open gates
        there are. "hamming": in how many gates two images differ, on average over all pairs.
        "dead_gates", "fixed_gates": the part of the gates that is open for no image, and that is
        open for all. "open_gates": the part that is open, on average. "correlation": by trait
        "pearson" and "spearman" with the cost; None where one of both is the same for all images.
        "nodes": a row per node with its "layer", "scale" and how often it is "open", with "paths",
        by name how often each is.
    """
    is_open, macs = gates > 0, macs.astype(np.float64)
    count = is_open.sum(axis=0)
    images = len(is_open)
    pairs = images * (images - 1) / 2
    return {
        "macs": {name: float(getattr(macs, name)()) for name in ("mean", "std", "min", "max")},
        "routes": len(np.unique(is_open, axis=0)),
        "hamming": float((count * (images - count)).sum() / pairs) if pairs else 0.0,
        "gates": gates.shape[1],
        "open_gates": float(is_open.mean()),
        "dead_gates": float((count == 0).mean()),
        "fixed_gates": float((count == images).mean()),
        "correlation": {name: correlations(values, macs) for name, values in traits.items()},
        "nodes": [_node(spec, is_open) for spec in config.nodes],
    }


def _node(spec: Any, is_open: np.ndarray) -> dict[str, Any]:
    own = is_open[:, spec.gates]
    paths = dict(zip(spec.paths, own.mean(axis=0).tolist(), strict=True))
    often = float(own.any(axis=1).mean())
    return {"layer": spec.layer, "scale": spec.scale, "open": often, "paths": paths}


def traits(
    dataset: DetectionDataset,
    index: np.ndarray,
    image_size: tuple[int, int],
    config: RoutingLossConfig | None = None,
) -> dict[str, np.ndarray]:
    """What the cost of an image could follow, or a router's score of it, float64 [N] by name.

    "objects"; "intervals" of sizes that they are in, as the scale-aware budget counts them, for a
    CADDet; their mean "size", the longer side in pixels of the canvas, 0 without objects; and the
    "difficulty" where the data set has grades.

    Args:
        dataset: `DetectionDataset`.
        index: [N] positions of the images.
        image_size: (height, width) of the canvas that images are fitted into.
        config: has the edges of the intervals; None without these.
    """
    sides = [_longer_sides(dataset, int(i), image_size) for i in index]
    found = {
        "objects": np.diff(dataset.box_offsets)[index].astype(np.float64),
        "size": np.array([one.mean() if len(one) else 0.0 for one in sides]),
    }
    if config is not None:
        edges = config.edges_for(image_size)
        intervals = [len(np.unique(np.searchsorted(edges, one))) for one in sides]
        found["intervals"] = np.array(intervals, np.float64)
    if dataset.difficulty is not None:
        found["difficulty"] = dataset.difficulty[index]
    return found


def _longer_sides(dataset: DetectionDataset, i: int, image_size: tuple[int, int]) -> np.ndarray:
    """Of an image's objects in pixels of the canvas."""
    rows = dataset.rows(i)
    boxes = dataset.boxes[rows][~dataset.is_crowd[rows]]
    scale = np.min(np.array(image_size) / dataset.sizes[i])
    return scale * (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)


def correlations(first: np.ndarray, second: np.ndarray) -> dict[str, float | None]:
    """Pearson's correlation of two rows of numbers, and Spearman's, which is that of their ranks.

    None where either has nothing but equal values.
    """
    if min(np.ptp(first), np.ptp(second)) == 0:
        return {"pearson": None, "spearman": None}
    of_ranks = np.corrcoef(_ranks(first), _ranks(second))
    return {
        "pearson": float(np.corrcoef(first, second)[0, 1]),
        "spearman": float(of_ranks[0, 1]),
    }


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def format_facts(facts: Mapping[str, Any]) -> str:
    """The numbers as lines for people."""
    macs = {name: f"{value / 1e9:.4g}" for name, value in facts["macs"].items()}
    lines = [
        f"cost       {macs['mean']} GMAC per image, std {macs['std']}, {macs['min']} to "
        f"{macs['max']}",
        f"routes     {facts['routes']} different ones; two images differ in {facts['hamming']:.2f} "
        f"of {facts['gates']} gates",
        f"gates      {_percent(facts['open_gates'])} open, {_percent(facts['dead_gates'])} for no "
        f"image, {_percent(facts['fixed_gates'])} for all",
    ]
    for name, both in facts["correlation"].items():
        words = [f"{kind.title()} {_signed(value)}" for kind, value in both.items()]
        lines.append(f"cost and {name}: {', '.join(words)}")
    return "\n".join(lines)


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"
