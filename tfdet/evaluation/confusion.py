"""Which classes are taken for which: the confusion matrix, with the background as a class."""

import numpy as np

from tfdet.evaluation import matching
from tfdet.evaluation.findings import Findings
from tfdet.evaluation.overlaps import Pairs
from tfdet.evaluation.picking import above

BACKGROUND = "background"


def confusion(
    findings: Findings, pairs: Pairs, threshold: float, least_iou: float = 0.5
) -> np.ndarray:
    """Counts of objects by true and by detected class, int64 [C + 1, C + 1].

    Detections first take the objects of their class, then, the surest first, those that are left,
    of whatever class. The last row are detections of which no object is left, the last column
    objects that nothing found; the corner is 0. Crowds, and detections in them, do not count.

    Args:
        findings: the truth and the detections.
        pairs: of them, all with an overlap of `least_iou` or more.
        threshold: detections below this score are taken for absent.
        least_iou: overlap from which a detection is one of an object.
    """
    findings, pairs = above(findings, pairs, threshold)
    truth, found = findings.truth, findings.found
    right = matching.match(findings, pairs, least_iou)
    free = pairs.where(~right.is_found[pairs.truth] & right.is_wrong[pairs.detection])
    free = free.where(~truth.is_crowd[free.truth])
    swapped = matching.match(findings, free, least_iou, any_class=True)
    size = findings.num_classes + 1
    matrix = np.zeros((size, size), np.int64)
    for pass_ in (right, swapped):
        rows = np.flatnonzero(pass_.is_hit)
        np.add.at(matrix, (truth.labels[pass_.truth[rows]], found.labels[rows]), 1)
    invented = right.is_wrong & ~swapped.is_hit
    np.add.at(matrix[-1], found.labels[invented], 1)
    missed = right.is_counted & ~right.is_found & ~swapped.is_found
    np.add.at(matrix[:, -1], truth.labels[missed], 1)
    return matrix


def most_frequent(matrix: np.ndarray, count: int = 10) -> list[tuple[int, int, int]]:
    """The classes that are most often taken for each other: (true, detected, how often)."""
    between = matrix[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    order = np.argsort(-between, axis=None, kind="stable")[:count]
    rows = zip(*np.unravel_index(order, between.shape), strict=True)
    return [(int(i), int(j), int(between[i, j])) for i, j in rows if between[i, j]]
