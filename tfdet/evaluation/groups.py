"""AP of parts of a data set: by the size of objects, the difficulty and the fill of images."""

import itertools
from typing import Any

import numpy as np

from tfdet.evaluation import matching, picking, precision_recall
from tfdet.evaluation.findings import Findings
from tfdet.evaluation.overlaps import Pairs

IOUS = np.arange(0.5, 0.96, 0.05)
# Areas in pixels, as COCO draws the lines.
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
_DIFFICULTIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_FILLS = {"1": (1, 1), "2-4": (2, 4), "5-9": (5, 9), "10-19": (10, 19), "20 or more": (20, 10**9)}


def average_precision(
    findings: Findings,
    pairs: Pairs,
    is_counted: np.ndarray | None = None,
    outside: np.ndarray | None = None,
) -> dict[str, Any]:
    """ "AP" over ten overlaps and "AP50", -1 without objects, and how many "objects" there are.

    Args:
        findings, pairs, is_counted, outside: as in `matching.match`.
    """
    values, objects = [], 0
    for iou in IOUS:
        matches = matching.match(findings, pairs, iou, is_counted, outside)
        values.append(precision_recall.mean_ap(precision_recall.curves(findings, matches)))
        objects = int(matches.is_counted.sum())
    return {"AP": float(np.mean(values)), "AP50": values[0], "objects": objects}


def by_size(findings: Findings, pairs: Pairs) -> list[dict[str, Any]]:
    """AP of objects by their area, in COCO's three sizes; rows with "group"."""
    truth, found = findings.truth, findings.found
    rows = []
    for name, (least, most) in SIZES.items():
        is_counted = (truth.areas >= least) & (truth.areas <= most)
        outside = (found.areas < least) | (found.areas > most)
        rows.append({"group": name, **average_precision(findings, pairs, is_counted, outside)})
    return rows


def by_difficulty(findings: Findings, pairs: Pairs) -> list[dict[str, Any]]:
    """AP of images by their difficulty; rows with "group" and "images"; none where it is not known.

    Groups without an image are left out.
    """
    difficulty = findings.dataset.difficulty
    if difficulty is None:
        return []
    own = difficulty[findings.images]
    place = np.clip(np.searchsorted(_DIFFICULTIES, own, side="right") - 1, 0, 4)
    names = [f"{low:g}-{high:g}" for low, high in itertools.pairwise(_DIFFICULTIES)]
    return _of_images(findings, pairs, {name: place == i for i, name in enumerate(names)})


def by_fill(findings: Findings, pairs: Pairs) -> list[dict[str, Any]]:
    """AP of images by how many objects are in them; rows with "group" and "images".

    Images without any object have no AP, and groups without an image are left out.
    """
    truth = findings.truth
    counts = np.bincount(truth.image[~truth.is_crowd], minlength=len(findings.dataset))
    own = counts[findings.images]
    return _of_images(
        findings,
        pairs,
        {name: (own >= least) & (own <= most) for name, (least, most) in _FILLS.items()},
    )


def _of_images(
    findings: Findings, pairs: Pairs, groups: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    rows = []
    for name, is_member in groups.items():
        if is_member.any():
            part = picking.of_images(findings, pairs, findings.images[is_member])
            numbers = average_precision(*part)
            rows.append({"group": name, "images": int(is_member.sum()), **numbers})
    return rows
