"""Which detection found which object, by COCO's rules.

The surest detection chooses first: of the objects of its class that nobody has, the one that it
overlaps most, and by enough. It takes an ignored object only where no other is left for it, and is
then neither right nor wrong; a crowd can be taken by any number.
"""

import dataclasses

import numpy as np

from tfdet.evaluation.findings import Findings
from tfdet.evaluation.overlaps import Pairs


@dataclasses.dataclass(frozen=True, eq=False)
class Matches:
    """What a matching came to.

    Attributes:
        truth: int64 [D], the object that each detection has; -1 for none.
        is_hit: bool [D], whether that object counts.
        is_ignored: bool [D], whether the detection is left out: what it has does not count.
        is_counted: bool [T], which objects there are to be found.
        is_found: bool [T], which of them were.
    """

    truth: np.ndarray
    is_hit: np.ndarray
    is_ignored: np.ndarray
    is_counted: np.ndarray
    is_found: np.ndarray

    @property
    def is_wrong(self) -> np.ndarray:
        """bool [D]: detections that are no hit and not left out either."""
        return ~self.is_hit & ~self.is_ignored


def match(
    findings: Findings,
    pairs: Pairs,
    least_iou: float = 0.5,
    is_counted: np.ndarray | None = None,
    outside: np.ndarray | None = None,
    any_class: bool = False,
) -> Matches:
    """Matches detections with objects.

    Args:
        findings: the truth and the detections.
        pairs: of them, all with an overlap of `least_iou` or more.
        least_iou: overlap of a hit.
        is_counted: bool [T], objects that are to be found; others, and all crowds, are ignored.
        outside: bool [D], detections that are left out where they have no object.
        any_class: whether the classes may differ.
    """
    truth, found = findings.truth, findings.found
    counted = ~truth.is_crowd if is_counted is None else is_counted & ~truth.is_crowd
    near = pairs.overlap >= least_iou
    if not any_class:
        near &= found.labels[pairs.detection] == truth.labels[pairs.truth]
    taken = _serve(pairs.where(near), counted, truth.is_crowd, len(found))
    has = taken >= 0
    is_hit = has & counted[taken] if len(truth) else has
    is_ignored = has & ~is_hit
    if outside is not None:
        is_ignored |= ~has & outside
    is_found = np.zeros(len(truth), bool)
    is_found[taken[is_hit]] = True
    return Matches(taken, is_hit, is_ignored, counted, is_found)


def _serve(near: Pairs, counted: np.ndarray, is_crowd: np.ndarray, count: int) -> np.ndarray:
    """The object of each detection, int64 [count]; -1 for none.

    Each detection asks for the best object that has not refused it, and each object keeps the
    surest that asks. That ends where serving the detections one by one would, in a few rounds.
    """
    # Of equal overlaps the last one, as COCO does.
    order = np.lexsort((-near.truth, -near.overlap, ~counted[near.truth], near.detection))
    detection, truth = near.detection[order], near.truth[order]
    rows, place, lengths = np.unique(detection, return_index=True, return_counts=True)
    end, nobody = place + lengths, count
    while True:
        asking = np.flatnonzero(place < end)
        wanted = truth[place[asking]]
        surest = np.full(len(counted), nobody)
        np.minimum.at(surest, wanted, rows[asking])
        refused = asking[(surest[wanted] != rows[asking]) & ~is_crowd[wanted]]
        if not len(refused):
            break
        place[refused] += 1
    taken = np.full(count, -1)
    taken[rows[asking]] = wanted
    return taken
