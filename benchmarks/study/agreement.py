"""Whether the seeds of a cascade agree on which images are worth the second detector.

What two trainings do not agree on depends on their weights, and not on the images alone.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.study import columns
from benchmarks.study.plan import Study
from tfdet.evaluation import routes

Rows = Sequence[Mapping[str, Any]]

_HEADS = {
    "score_gain": "score and gain in loss",
    "gains": "gains, two seeds",
    "scores": "scores, two seeds",
}
_WORDS = (
    "What the router's scores of the validation images have to do with what the second detector "
    "gains in their loss, and whether two seeds agree on either (Spearman; the mean, and the "
    "smallest to the largest):"
)


def table(study: Study, rows: Rows) -> str:
    """A Markdown table of the arms that are cascades; "" where there is none."""
    lines = []
    for name, arm in study.arms.items():
        found = of_arm([row for row in rows if row["arm"] == name])
        if any(found.values()):
            lines.append(f"| {arm.title} | {' | '.join(_cell(found[key]) for key in _HEADS)} |")
    if not lines:
        return ""
    head = f"| | {' | '.join(_HEADS.values())} |"
    return "\n".join([_WORDS, "", head, "|---" * (len(_HEADS) + 1) + "|", *lines])


def of_arm(rows: Rows) -> dict[str, list[float]]:
    """Spearman's correlations over the images, of the rows of one arm.

    Returns:
        "score_gain": of each run its scores with its gains, below 0 where a router sends those that
        gain; "gains", "scores": of each pair of runs. Those of equal numbers are left out.
    """
    rows = [row for row in rows if {"gains", "easiness"} <= row.keys()]
    pairs = list(itertools.combinations(rows, 2))
    return {
        "score_gain": _spearman((row["easiness"], row["gains"]) for row in rows),
        "gains": _spearman((one["gains"], other["gains"]) for one, other in pairs),
        "scores": _spearman((one["easiness"], other["easiness"]) for one, other in pairs),
    }


def _spearman(pairs: Iterable[tuple[Sequence[float], Sequence[float]]]) -> list[float]:
    found = (routes.correlations(*map(np.asarray, pair))["spearman"] for pair in pairs)
    return [value for value in found if value is not None]


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean, least, most = (
        columns.signed(f"{value:+.2f}")
        for value in (float(np.mean(values)), min(values), max(values))
    )
    return mean if least == most else f"{mean} ({least} to {most})"
