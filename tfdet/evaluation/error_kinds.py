"""Kinds of errors, and the AP that mending each would add: TIDE (Bolya et al. 2020).

A detection that is no hit at an IoU of 0.5 is, by the first line that holds:

- location: it overlaps an object of its class by 0.1 or more, but not by 0.5;
- class: it overlaps an object of another class by 0.5 or more;
- duplicate: it overlaps an object of its class by 0.5 or more, which a surer detection has;
- background: it overlaps no object by 0.1 or more;
- both: what is left, a wrong class and a wrong place.

An object that nothing found is missed, unless mending a class or a location would find it.
"""

import dataclasses

import numpy as np

from tfdet.evaluation import matching, precision_recall
from tfdet.evaluation.findings import Findings
from tfdet.evaluation.matching import Matches
from tfdet.evaluation.overlaps import BACKGROUND_IOU, Pairs

FOREGROUND_IOU = 0.5
OF_DETECTIONS = ("class", "location", "both", "duplicate", "background")
KINDS = (*OF_DETECTIONS, "missed")
NO_ERROR = -1
_MISSED = KINDS.index("missed")


@dataclasses.dataclass(frozen=True, eq=False)
class Errors:
    """What is wrong with detections, and which objects are missed.

    Attributes:
        kind: int64 [D], position in `KINDS`, or `NO_ERROR` of a hit or of what is left out.
        target: int64 [D], of an error of class or location: the object that it would find; -1.
        is_missed: bool [T].
    """

    kind: np.ndarray
    target: np.ndarray
    is_missed: np.ndarray

    def counts(self) -> dict[str, int]:
        """How many there are of each of `KINDS`."""
        of_detections = np.bincount(self.kind[self.kind >= 0], minlength=len(OF_DETECTIONS))
        values = [*of_detections.tolist(), int(self.is_missed.sum())]
        return dict(zip(KINDS, values, strict=True))


def errors_of(findings: Findings, pairs: Pairs, matches: Matches, above: float = -np.inf) -> Errors:
    """The kind of each error.

    Args:
        findings: the truth and the detections.
        pairs: of them, all with an overlap of `BACKGROUND_IOU` or more.
        matches: at `FOREGROUND_IOU`.
        above: detections below this score are taken for absent, also where an object is missed.
    """
    truth, found = findings.truth, findings.found
    pairs = pairs.where(~truth.is_crowd[pairs.truth])
    same = truth.labels[pairs.truth] == found.labels[pairs.detection]
    own, own_best = _best(pairs.where(same), len(found))
    other, other_best = _best(pairs.where(~same), len(found))
    any_overlap = np.maximum(own, other)
    is_wrong = matches.is_wrong & (found.scores >= above)
    rules = {
        "location": (own >= BACKGROUND_IOU) & (own < FOREGROUND_IOU),
        "class": other >= FOREGROUND_IOU,
        "duplicate": own >= FOREGROUND_IOU,
        "background": any_overlap < BACKGROUND_IOU,
        "both": np.ones(len(found), bool),
    }
    kinds = [KINDS.index(name) for name in rules]
    kind = np.where(is_wrong, np.select(list(rules.values()), kinds, NO_ERROR), NO_ERROR)
    target = np.where(kind == KINDS.index("location"), own_best, -1)
    target = np.where(kind == KINDS.index("class"), other_best, target)
    is_hit = matches.is_hit & (found.scores >= above)
    is_found = np.zeros(len(truth), bool)
    is_found[matches.truth[is_hit]] = True
    target[np.append(is_found, False)[target]] = -1  # that place is the one of no target
    is_mendable = np.zeros(len(truth), bool)
    is_mendable[target[target >= 0]] = True
    return Errors(kind, target, matches.is_counted & ~is_found & ~is_mendable)


def _best(pairs: Pairs, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest overlap of each detection, and whose it is: float64, int64 [count]; 0 and -1."""
    overlap, truth = np.zeros(count), np.full(count, -1)
    order = np.lexsort((-pairs.truth, pairs.overlap))  # the first of the largest is written last
    overlap[pairs.detection[order]] = pairs.overlap[order]
    truth[pairs.detection[order]] = pairs.truth[order]
    return overlap, truth


def gains(findings: Findings, matches: Matches, errors: Errors) -> dict[str, float]:
    """The AP at an IoU of 0.5 that mending would add, by kind; each is mended alone.

    An error of class or location becomes the hit that it was meant to be, if it is the surest of
    both kinds for its object, and is gone otherwise, as in the authors' program; one of the other
    kinds is gone; missed objects do not count.
    "false positive": all detections that are no hit are gone; "false negative": no object that was
    not found counts.
    """
    classes = np.unique(findings.truth.labels[matches.is_counted]).tolist()
    if not classes:
        return {}
    results = {name: _mended(findings, matches, errors, name) for name in OF_DETECTIONS}
    results["missed"] = _without_objects(matches, errors.is_missed)
    results["false positive"] = dataclasses.replace(
        matches, is_ignored=matches.is_ignored | matches.is_wrong
    )
    results["false negative"] = _without_objects(matches, ~matches.is_found)
    changed = {"class": _right_classes(findings, errors)}
    before = _ap(findings, matches, classes)
    order = (*KINDS, "false positive", "false negative")
    return {
        name: _ap(changed.get(name, findings), results[name], classes) - before for name in order
    }


def _mended(findings: Findings, matches: Matches, errors: Errors, name: str) -> Matches:
    """Matches without the errors of a kind: those with a target of their own are hits."""
    is_kind = errors.kind == KINDS.index(name)
    rows = np.flatnonzero(errors.target >= 0)
    _, first = np.unique(errors.target[rows], return_index=True)
    is_meant = np.zeros(len(is_kind), bool)
    is_meant[rows[first]] = True
    is_hit = matches.is_hit | (is_kind & is_meant)
    return dataclasses.replace(
        matches, is_hit=is_hit, is_ignored=matches.is_ignored | (is_kind & ~is_hit)
    )


def _without_objects(matches: Matches, gone: np.ndarray) -> Matches:
    return dataclasses.replace(matches, is_counted=matches.is_counted & ~gone)


def _right_classes(findings: Findings, errors: Errors) -> Findings:
    """Detections of a wrong class with the class of the object that they are meant for."""
    found, wrong = findings.found, errors.kind == KINDS.index("class")
    wrong &= errors.target >= 0
    labels = found.labels.copy()
    labels[wrong] = findings.truth.labels[errors.target[wrong]]
    return dataclasses.replace(findings, found=dataclasses.replace(found, labels=labels))


def _ap(findings: Findings, matches: Matches, classes: list[int]) -> float:
    """AP on average over some classes, also over those that mending left without an object.

    Such a class is perfect where it has no detection either: all that it had was missed.
    """
    curves = precision_recall.curves(findings, matches)
    own = [curves[label] for label in classes]
    return float(np.mean([x.ap if x.num_objects else float(not len(x.scores)) for x in own]))


def kinds_of(findings: Findings, pairs: Pairs) -> tuple[Matches, Errors]:
    """Matches at `FOREGROUND_IOU` and the errors of all detections."""
    matches = matching.match(findings, pairs, FOREGROUND_IOU)
    return matches, errors_of(findings, pairs, matches)
