"""How much detections and objects of the same image cover each other, as a sparse list."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from tfdet.evaluation import coco
from tfdet.evaluation.findings import Findings, Found, Truth

# Below this an overlap means nothing: TIDE's limit between a wrong place and the background.
BACKGROUND_IOU = 0.1
_CHUNK = 1 << 20  # pairs that are looked at together


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Detections and objects that overlap, by any two of them one row.

    Attributes:
        detection: int64 [P], rows of `Found`, ascending.
        truth: int64 [P], rows of `Truth`.
        overlap: float64 [P], IoU; with a crowd the part of the detection that lies in it.
    """

    detection: np.ndarray
    truth: np.ndarray
    overlap: np.ndarray

    def where(self, keep: np.ndarray) -> "Pairs":
        """The rows that a mask bool [P] has."""
        return Pairs(self.detection[keep], self.truth[keep], self.overlap[keep])


def of_boxes(findings: Findings, least: float = BACKGROUND_IOU) -> Pairs:
    """The pairs whose boxes overlap by `least` or more."""
    truth, found = findings.truth, findings.found
    parts = []
    for detection, other in _same_image(truth, found):
        overlap = _box_overlap(found.boxes[detection], truth.boxes[other], truth.is_crowd[other])
        parts.append(Pairs(detection, other, overlap).where(overlap >= least))
    return _concatenated(parts)


def of_masks(findings: Findings, least: float = BACKGROUND_IOU) -> Pairs:
    """The pairs whose masks overlap by `least` or more; boxes that do not meet are passed over."""
    from pycocotools import mask as coco_masks

    truth, found, runs = findings.truth, findings.found, findings.found.runs
    assert runs is not None, "of detections with masks"
    near = of_boxes(findings, least=1e-9)
    rows, place = np.unique(near.truth, return_inverse=True)
    sizes = findings.dataset.sizes[truth.image[rows]].tolist()
    outlines = [
        coco.runs_of_object(findings.dataset, int(row), (height, width))
        for row, (height, width) in zip(truth.rows[rows], sizes, strict=True)
    ]
    order = np.argsort(found.image[near.detection], kind="stable")
    overlap = np.zeros(len(order))
    for part in np.split(order, np.flatnonzero(np.diff(found.image[near.detection][order])) + 1):
        if not len(part):
            continue
        detections, d = np.unique(near.detection[part], return_inverse=True)
        others, t = np.unique(place[part], return_inverse=True)
        is_crowd = truth.is_crowd[rows[others]].astype(np.uint8).tolist()
        matrix = coco_masks.iou(
            [runs[i] for i in detections], [outlines[i] for i in others], is_crowd
        )
        overlap[part] = matrix[d, t]
    return Pairs(near.detection, near.truth, overlap).where(overlap >= least)


def _same_image(truth: Truth, found: Found) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of detections and of objects of the same image, all pairs, about `_CHUNK` at a time."""
    images = np.arange(max(truth.image.max(initial=-1), found.image.max(initial=-1)) + 2)
    starts = np.searchsorted(truth.image, images)
    first, counts = starts[found.image], np.diff(starts)[found.image]
    ends = np.cumsum(counts)
    chunk = ends // _CHUNK
    for rows in np.split(np.arange(len(found)), np.flatnonzero(np.diff(chunk)) + 1):
        own = counts[rows]
        detection = np.repeat(rows, own)
        within = np.arange(len(detection)) - np.repeat(np.cumsum(own) - own, own)
        yield detection, first[detection] + within


def _box_overlap(found: np.ndarray, truth: np.ndarray, is_crowd: np.ndarray) -> np.ndarray:
    corner = np.minimum(found[:, 2:], truth[:, 2:]) - np.maximum(found[:, :2], truth[:, :2])
    common = np.prod(np.maximum(corner, 0), axis=1)
    own, other = (np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (found, truth))
    whole = np.where(is_crowd, own, own + other - common)
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


def _concatenated(parts: list[Pairs]) -> Pairs:
    empty = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    names = [field.name for field in dataclasses.fields(Pairs)]
    return Pairs(*(np.concatenate([getattr(x, name) for x in (empty, *parts)]) for name in names))
