"""Parts of the findings of a data set: the sure detections, some of the images."""

import dataclasses
from typing import Any, TypeVar

import numpy as np

from tfdet.evaluation.findings import Findings, Found, Truth
from tfdet.evaluation.overlaps import Pairs

Columns = TypeVar("Columns", Found, Truth)


def above(findings: Findings, pairs: Pairs, threshold: float) -> tuple[Findings, Pairs]:
    """The same without detections below a score."""
    count = int(np.searchsorted(-findings.found.scores, -threshold, side="right"))
    found = _rows(findings.found, np.arange(count))
    kept = pairs.where(pairs.detection < count)
    return dataclasses.replace(findings, found=found), kept


def of_images(findings: Findings, pairs: Pairs, images: np.ndarray) -> tuple[Findings, Pairs]:
    """The same of some images alone.

    Args:
        findings: the truth and the detections.
        pairs: of them.
        images: int64 [M], positions in the data set.
    """
    is_wanted = np.zeros(len(findings.dataset), bool)
    is_wanted[images] = True
    detections = np.flatnonzero(is_wanted[findings.found.image])
    objects = np.flatnonzero(is_wanted[findings.truth.image])
    part = dataclasses.replace(
        findings,
        images=findings.images[is_wanted[findings.images]],
        found=_rows(findings.found, detections),
        truth=_rows(findings.truth, objects),
    )
    kept = pairs.where(is_wanted[findings.found.image[pairs.detection]])
    new_detection = np.searchsorted(detections, kept.detection)
    return part, Pairs(new_detection, np.searchsorted(objects, kept.truth), kept.overlap)


def _rows(columns: Columns, rows: np.ndarray) -> Columns:
    """Some rows of a `Found` or a `Truth`."""
    taken: dict[str, Any] = {}
    for name, values in vars(columns).items():
        if values is not None:
            is_list = isinstance(values, list)
            taken[name] = [values[i] for i in rows] if is_list else values[rows]
    return dataclasses.replace(columns, **taken)
