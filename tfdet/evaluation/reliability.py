"""Whether scores can be read as probabilities: how often detections of a score are right."""

from typing import Any

import numpy as np

from tfdet.evaluation.findings import Findings
from tfdet.evaluation.matching import Matches

NUM_BINS = 10


def reliability(findings: Findings, matches: Matches, bins: int = NUM_BINS) -> dict[str, Any]:
    """How often detections are right, by their score.

    Args:
        findings: the truth and the detections.
        matches: which of them are right.
        bins: of equal width from 0 to 1.

    Returns:
        "edges" [bins + 1]; "count", "score" (their mean) and "precision" of the detections in each
        bin, None where there are none; "error": by how much score and precision differ, on average
        over the detections (the expected calibration error); None without detections.
    """
    keep = ~matches.is_ignored
    scores, is_hit = findings.found.scores[keep], matches.is_hit[keep]
    place = np.clip((scores * bins).astype(int), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, weights=x, minlength=bins) for x in (scores, is_hit))
    score, precision = (_ratio(x, count) for x in sums)
    apart = count * np.abs(np.nan_to_num(score) - np.nan_to_num(precision))
    return {
        "edges": np.linspace(0, 1, bins + 1).round(6).tolist(),
        "count": count.tolist(),
        "score": _or_none(score),
        "precision": _or_none(precision),
        "error": float(apart.sum() / count.sum()) if count.sum() else None,
    }


def _ratio(sums: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(sums, count, out=np.full(len(count), np.nan), where=count > 0)


def _or_none(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(x) else float(x) for x in values]
