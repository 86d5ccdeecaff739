"""Precision and recall over the score: curves, average precision, the best threshold by F1."""

import dataclasses

import numpy as np

from tfdet.evaluation.findings import Findings
from tfdet.evaluation.matching import Matches

RECALLS = np.linspace(0, 1, 101)  # where COCO reads the precision
_TINY = np.spacing(1)


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """Precision and recall of one class, or of all, as the threshold of the score falls.

    Attributes:
        scores: float64 [n], descending; a threshold keeps the detections of this score and above.
        precision, recall: float64 [n].
        num_objects: what there was to find.
    """

    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    num_objects: int

    def envelope(self) -> np.ndarray:
        """Precision at `RECALLS`, float64 [101]: the best at this recall or a higher one."""
        best = np.maximum.accumulate(self.precision[::-1])[::-1]
        place = np.searchsorted(self.recall, RECALLS, side="left")
        return np.append(best, 0.0)[np.minimum(place, len(best))]

    @property
    def ap(self) -> float:
        """Average precision as COCO computes it; -1 without objects."""
        return float(self.envelope().mean()) if self.num_objects else -1.0

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of precision and recall, float64 [n]."""
        total = self.precision + self.recall
        return np.divide(
            2 * self.precision * self.recall, total, out=np.zeros_like(total), where=total > 0
        )


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A threshold of the score, and what it leads to."""

    threshold: float
    f1: float
    precision: float
    recall: float


def curve(is_hit: np.ndarray, scores: np.ndarray, num_objects: int) -> Curve:
    """The curve of some detections, the surest first.

    Args:
        is_hit: bool [n].
        scores: float64 [n], descending.
        num_objects: what there is to find.
    """
    hits = np.cumsum(is_hit)
    precision = hits / (np.arange(1, len(hits) + 1) + _TINY)
    return Curve(scores, precision, hits / max(num_objects, 1), num_objects)


def curve_of_all(findings: Findings, matches: Matches) -> Curve:
    """The curve of all detections together, whatever their class."""
    keep = ~matches.is_ignored
    objects = int(matches.is_counted.sum())
    return curve(matches.is_hit[keep], findings.found.scores[keep], objects)


def curves(findings: Findings, matches: Matches) -> list[Curve]:
    """The curve of each class."""
    found, labels = findings.found, np.arange(findings.num_classes)
    keep = np.flatnonzero(~matches.is_ignored)
    keep = keep[np.argsort(found.labels[keep], kind="stable")]  # of each class still by score
    ends = np.searchsorted(found.labels[keep], labels, side="right")
    counted = findings.truth.labels[matches.is_counted]
    objects = np.bincount(counted, minlength=len(labels)).tolist()
    return [
        curve(matches.is_hit[rows], found.scores[rows], count)
        for rows, count in zip(np.split(keep, ends[:-1]), objects, strict=True)
    ]


def mean_ap(class_curves: list[Curve]) -> float:
    """AP, on average over the classes that have objects; -1 where none has."""
    values = [one.ap for one in class_curves if one.num_objects]
    return float(np.mean(values)) if values else -1.0


def best_threshold(one: Curve) -> Threshold | None:
    """The threshold of the highest F1; None without objects or without a hit."""
    if not one.num_objects or not one.recall.max(initial=0):
        return None
    # Detections of equal scores come and go together.
    is_last = np.r_[np.diff(one.scores) != 0, True]
    place = int(np.argmax(np.where(is_last, one.f1, -1)))
    values = (x[place] for x in (one.scores, one.f1, one.precision, one.recall))
    return Threshold(*map(float, values))
