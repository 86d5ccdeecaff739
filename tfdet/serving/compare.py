"""Whether two sets of detections are the same, honest about ties."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfdet.detectors.dynamic import reported
from tfdet.ops import boxes as box_ops

BOX_TOLERANCE = 0.5  # pixels
SCORE_TOLERANCE = 1e-3
MASK_TOLERANCE = 1e-2  # probabilities move with the edges of their boxes
# The score of detections that count in `closeness`, those that `tfdet-infer` draws; and the IoU
# with one of the same class that makes it the same detection.
CERTAIN, SAME_BOX = 0.3, 0.5
# Far above the rounding of a score, 1e-8 to 1e-6, and far below what tells detections apart.
TIE = 1e-5


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far apart two sets of detections are.

    Attributes:
        detections: how many were compared.
        box, score: the largest difference of a pair, in pixels and in probability.
        tied: detections without a partner whose score ties with that of the last place of a full
            list, or with that of a rival: there rounding decides who gets the place.
        lost: detections without a partner where `closeness` compared.
        mismatches: a sentence for each image that differs otherwise.
    """

    detections: int = 0
    box: float = 0.0
    score: float = 0.0
    tied: int = 0
    lost: int = 0
    mismatches: tuple[str, ...] = ()

    def __add__(self, other: "Difference") -> "Difference":
        return Difference(
            self.detections + other.detections,
            max(self.box, other.box),
            max(self.score, other.score),
            self.tied + other.tied,
            self.lost + other.lost,
            self.mismatches + other.mismatches,
        )


def compare(expected: Mapping[str, Any], found: Mapping[str, Any], name: str) -> Difference:
    """Compares two batches of detections image by image.

    Counts must be equal, and every detection needs a partner with the same label, boxes within
    `BOX_TOLERANCE`, scores within `SCORE_TOLERANCE` and masks, where there are any, within
    `MASK_TOLERANCE`. Partners need not have the same rank,
    since rounding orders detections of almost equal score. What a dynamic detector reports about an
    image must be the same too: yes or no exactly, numbers within `SCORE_TOLERANCE`, and those that
    are large, such as costs, within 1e-6 of their size: sums of float32, whose order may differ.

    Args:
        expected, found: as `Detector.decode` returns them.
        name: of the batch, for the sentences.
    """
    expected = {key: np.asarray(value) for key, value in expected.items()}
    found = {key: np.asarray(value) for key, value in found.items()}
    wrong = _wrong_form(expected, found)
    if wrong:
        return _mismatch(f"{name}: {wrong}")
    total = Difference()
    for i in range(len(expected["count"])):
        ours, theirs = ({k: value[i] for k, value in side.items()} for side in (expected, found))
        total += _compare_image(ours, theirs, f"{name}, image {i}")
    return total


def closeness(expected: Mapping[str, Any], found: Mapping[str, Any], name: str) -> Difference:
    """As `compare`, of a detector with coarser numbers, which cannot give the same.

    Expected detections with a score of `CERTAIN` or more look for a partner of the same class whose
    box overlaps theirs by `SAME_BOX` or more; `lost` are those that find none. Only another form of
    the results, or numbers that are not finite, are mismatches.
    """
    expected = {key: np.asarray(value) for key, value in expected.items()}
    found = {key: np.asarray(value) for key, value in found.items()}
    wrong = _wrong_form(expected, found)
    numbers = (x for x in found.values() if x.dtype.kind == "f")
    if wrong or not all(np.isfinite(x).all() for x in numbers):
        return _mismatch(f"{name}: {wrong or 'some numbers are not finite'}")
    total = Difference()
    for i in range(len(expected["count"])):
        sides = ({k: value[i] for k, value in side.items()} for side in (expected, found))
        total += _close_image(*sides)
    return total


def _close_image(expected: dict, found: dict) -> Difference:
    certain = int((expected["scores"][: expected["count"]] >= CERTAIN).sum())
    count = int(found["count"])
    overlap = np.array(box_ops.iou(expected["boxes"][:certain], found["boxes"][:count]))
    is_same = expected["labels"][:certain, None] == found["labels"][None, :count]
    overlap = np.where(is_same, overlap, 0.0)
    pairs = []
    for i in range(certain):
        if count and overlap[i].max() >= SAME_BOX:
            partner = int(overlap[i].argmax())
            overlap[:, partner] = 0.0
            pairs.append((i, partner))
    ours, theirs = np.array(pairs, int).reshape(-1, 2).T
    box, score = (
        float(np.abs(expected[key][ours] - found[key][theirs]).max(initial=0.0))
        for key in ("boxes", "scores")
    )
    return Difference(detections=certain, box=box, score=score, lost=certain - len(pairs))


def _wrong_form(expected: dict, found: dict) -> str:
    for key, value in expected.items():
        if (found[key].shape, found[key].dtype) != (value.shape, value.dtype):
            return (
                f"{key} should be {value.dtype} {list(value.shape)}, "
                f"got {found[key].dtype} {list(found[key].shape)}"
            )
    return ""


def _compare_image(expected: dict, found: dict, name: str) -> Difference:
    for key, value in reported(expected).items():
        if not _is_same_report(value, found[key]):
            return _mismatch(f"{name}: {key} should be {value}, got {found[key]}")
    count = int(expected["count"])
    if int(found["count"]) != count:
        return _mismatch(f"{name}: {count} detections expected, got {int(found['count'])}")
    for side in (expected, found):
        if side["boxes"][count:].any() or side["scores"][count:].any():
            return _mismatch(f"{name}: rows behind the count are not empty")
    partner = _partners(expected, found, count)
    alone = np.flatnonzero(partner < 0)
    is_full = count == len(expected["scores"])
    last = expected["scores"][count - 1] if is_full else -1.0
    lost = [i for i in alone if expected["scores"][i] > last + TIE]
    lost = _without_rivals(lost, expected, found, np.setdiff1d(np.arange(count), partner))
    pairs = np.flatnonzero(partner >= 0)
    boxes = np.abs(expected["boxes"][pairs] - found["boxes"][partner[pairs]])
    scores = np.abs(expected["scores"][pairs] - found["scores"][partner[pairs]])
    mismatches: tuple[str, ...] = ()
    if lost:
        i = lost[0]
        mismatches = (
            f"{name}: {len(lost)} of {count} detections have no partner, the first is "
            f"label {expected['labels'][i]} at {expected['boxes'][i].round(1).tolist()} "
            f"with score {expected['scores'][i]:.4f}",
        )
    if "masks" in expected:
        masks = np.abs(expected["masks"][pairs] - found["masks"][partner[pairs]])
        if masks.max(initial=0.0) > MASK_TOLERANCE:
            mismatches += (f"{name}: a mask differs by {masks.max():.3f}",)
    return Difference(
        detections=count,
        box=float(boxes.max(initial=0.0)),
        score=float(scores.max(initial=0.0)),
        tied=len(alone) - len(lost),
        mismatches=mismatches,
    )


def _is_same_report(expected: np.ndarray, found: np.ndarray) -> bool:
    if expected.dtype.kind != "f":
        return np.array_equal(expected, found)
    tolerance = np.maximum(SCORE_TOLERANCE, 1e-6 * np.abs(expected))
    return bool((np.abs(found - expected) <= tolerance).all())


def _partners(expected: dict, found: dict, count: int) -> np.ndarray:
    """For each expected detection the index of its partner, -1 for none; int [count]."""
    boxes = np.abs(expected["boxes"][:count, None] - found["boxes"][None, :count]).max(-1)
    scores = np.abs(expected["scores"][:count, None] - found["scores"][None, :count])
    is_same = (
        (boxes <= BOX_TOLERANCE)
        & (scores <= SCORE_TOLERANCE)
        & (expected["labels"][:count, None] == found["labels"][None, :count])
    )
    partner = np.full(count, -1)
    for i in range(count):
        candidates = np.flatnonzero(is_same[i])
        if candidates.size:
            partner[i] = candidates[boxes[i, candidates].argmin()]
            is_same[:, partner[i]] = False
    return partner


def _without_rivals(lost: list, expected: dict, found: dict, extra: np.ndarray) -> list:
    """Those of `lost` whose place no rival took: rounding decides which of two is the better one.

    A rival overlaps the lost detection, has its class, its score but for a tie, and no partner
    either; suppression then weakens the other one of the two.

    Args:
        lost: rows of `expected`.
        expected, found: detections of an image.
        extra: rows of `found` without a partner.
    """
    overlap = np.array(box_ops.iou(expected["boxes"][lost], found["boxes"][extra]))
    scores = np.abs(expected["scores"][lost][:, None] - found["scores"][extra])
    is_same = expected["labels"][lost][:, None] == found["labels"][extra]
    is_rival = (overlap > 0) & (scores <= TIE) & is_same
    left = []
    for row, i in enumerate(lost):
        rivals = np.flatnonzero(is_rival[row])
        if rivals.size:
            is_rival[:, rivals[0]] = False  # it took one place
        else:
            left.append(i)
    return left


def _mismatch(sentence: str) -> Difference:
    return Difference(mismatches=(sentence,))
