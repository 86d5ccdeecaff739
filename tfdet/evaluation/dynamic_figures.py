"""The figures of a dynamic detector's report: costs, scores of the router, easy and hard images."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfdet.detectors.dynamic import Dynamic
from tfdet.evaluation import groups, picking, report
from tfdet.evaluation.analysis import Analysis

NUM_LISTED = 20  # least and most expensive images
_BINS = 20


def dynamic_figures(
    model: Dynamic, reports: Mapping[str, np.ndarray], boxes: Analysis
) -> dict[str, Any]:
    """What a dynamic detector did with the images of a data set.

    Args:
        model: as it was measured.
        reports: of the images, as `coco.Evaluation.routes` has them.
        boxes: the analysis of the same measurement.

    Returns:
        "threshold" of the router; "macs" on average, and "share" of hard images of a cascade;
        "costs" and "scores": histograms with "edges" and "count", the latter of routers with one
        score for an image, and its "name"; "by_cost": AP of images by what was spent on them;
        "easiest" and "hardest": images with their "macs" and "score".
    """
    macs, order = reports["macs"].astype(np.float64), hardest_last(model, reports)
    facts: dict[str, Any] = {
        "threshold": model.threshold,
        "macs": float(macs.mean()),
        "costs": _histogram(macs, (macs.min(), macs.max())),
        "by_cost": _by_cost(reports, order, boxes),
        "easiest": _rows(model, reports, boxes, order[:NUM_LISTED]),
        "hardest": _rows(model, reports, boxes, order[::-1][:NUM_LISTED]),
    }
    if "is_hard" in reports:
        facts["share"] = float(reports["is_hard"].mean())
    if reports[model.score].ndim == 1:
        facts["scores"] = {"name": model.score, **_histogram(reports[model.score], (0.0, 1.0))}
    return facts


def hardest_last(model: Dynamic, reports: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rows of `reports` from the least to the most expensive image.

    Images of equal costs are in the order of the router's score, where it has one for an image.
    """
    scores = reports[model.score]
    least, most = model.threshold_ends
    # A threshold that rises with the effort sends the images below it the expensive way.
    need = (-scores if most > least else scores) if scores.ndim == 1 else np.zeros(len(scores))
    return np.lexsort((need, reports["macs"]))


def _by_cost(
    reports: Mapping[str, np.ndarray], order: np.ndarray, boxes: Analysis
) -> list[dict[str, Any]]:
    if "is_hard" in reports:
        is_hard = reports["is_hard"]
        parts = {"easy": np.flatnonzero(~is_hard), "hard": np.flatnonzero(is_hard)}
    else:
        names = ("least expensive third", "middle third", "most expensive third")
        parts = dict(zip(names, np.array_split(order, 3), strict=True))
    rows = []
    for name, members in parts.items():
        if len(members):
            part = picking.of_images(boxes.findings, boxes.pairs, reports["index"][members])
            numbers = groups.average_precision(*part)
            macs = float(reports["macs"][members].astype(np.float64).mean())
            rows.append({"group": name, "images": len(members), "macs": macs, **numbers})
    return rows


def _rows(
    model: Dynamic, reports: Mapping[str, np.ndarray], boxes: Analysis, members: np.ndarray
) -> list[dict[str, Any]]:
    places = np.searchsorted(boxes.images.images, reports["index"][members])
    rows = report.image_rows(boxes, places)
    scores = reports[model.score]
    for row, i in zip(rows, members, strict=True):
        row["macs"] = float(reports["macs"][i])
        if scores.ndim == 1:
            row["score"] = float(scores[i])
    return rows


def _histogram(values: np.ndarray, ends: tuple[float, float]) -> dict[str, list[float]]:
    count, edges = np.histogram(values.astype(np.float64), bins=_BINS, range=ends)
    return {"edges": edges.tolist(), "count": count.tolist()}
