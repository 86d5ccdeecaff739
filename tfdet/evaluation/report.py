"""The figures of the report as plain numbers, ready for JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfdet.evaluation import (
    analysis,
    coco,
    confusion,
    error_kinds,
    groups,
    image_scores,
    reliability,
)
from tfdet.evaluation.analysis import Analysis

NUM_WORST = 100  # images that are listed
NUM_EXAMPLES = 20  # of each kind of error


def figures(
    boxes: Analysis, metrics: Mapping[str, float], masks: Analysis | None = None
) -> dict[str, Any]:
    """All figures of a detector on a data set.

    Args:
        boxes: the analysis of the boxes.
        metrics: as `CocoEvaluator.result` returns them.
        masks: the analysis of the masks, where there are any.

    Returns:
        "images", "objects", "crowds", "detections"; "metrics", COCO's numbers without those of
        classes; what `_explained` returns of the boxes, and "masks" with the same of the masks;
        "worst_images" and "examples" of errors. Rows of images have the "image" with its name and
        its "id", and what was found in them at the best threshold.
    """
    findings = boxes.findings
    totals = {k: v for k, v in metrics.items() if k.removeprefix(coco.MASK) in coco.METRICS}
    facts = {
        "images": len(findings.images),
        "objects": int(boxes.matches.is_counted.sum()),
        "crowds": int(findings.truth.is_crowd.sum()),
        "detections": len(findings.found),
        "metrics": totals,
        **_explained(boxes, metrics, ""),
        "worst_images": image_rows(boxes, boxes.images.worst(NUM_WORST)),
        "examples": {name: _examples(boxes, name) for name in error_kinds.OF_DETECTIONS},
    }
    if masks is not None:
        facts["masks"] = _explained(masks, metrics, coco.MASK)
    return facts


def _explained(of: Analysis, metrics: Mapping[str, float], prefix: str) -> dict[str, Any]:
    """What explains an AP.

    Returns:
        "classes", see `analysis.class_rows`; "best", the threshold for all classes, or None, and
        "thresholds", what others lead to; "errors": "gains" in AP50, and how many there are of each
        kind "at_threshold" and among "all" detections; "confusion" with its "threshold", "classes"
        and "matrix", true classes down and detected ones across, and the "most_frequent" mistakes;
        "reliability"; "by_size", "by_difficulty", "by_fill".
    """
    findings, pairs, matches = of.findings, of.pairs, of.matches
    matrix = confusion.confusion(findings, pairs, of.threshold)
    names = [*findings.dataset.class_names, confusion.BACKGROUND]
    return {
        "threshold": of.threshold,
        "best": dataclasses.asdict(of.best) if of.best else None,
        "thresholds": analysis.threshold_rows(of),
        "classes": analysis.class_rows(of, dict(metrics), prefix),
        "errors": {
            "gains": error_kinds.gains(findings, matches, of.errors),
            "at_threshold": of.sure_errors.counts(),
            "all": of.errors.counts(),
        },
        "confusion": {
            "threshold": of.threshold,
            "classes": names,
            "matrix": matrix.tolist(),
            "most_frequent": [
                {"true": names[i], "detected": names[j], "count": count}
                for i, j, count in confusion.most_frequent(matrix)
            ],
        },
        "reliability": reliability.reliability(findings, matches),
        "by_size": groups.by_size(findings, pairs),
        "by_difficulty": groups.by_difficulty(findings, pairs),
        "by_fill": groups.by_fill(findings, pairs),
    }


def image_rows(of: Analysis, rows: np.ndarray) -> list[dict[str, Any]]:
    """What is reported about some images.

    Args:
        of: the analysis.
        rows: int64 [M], of `of.images`.
    """
    scores, dataset = of.images, of.findings.dataset
    return [
        {
            **_image(dataset, int(scores.images[i])),
            "hits": int(scores.hits[i]),
            "wrong": int(scores.wrong[i]),
            "not_found": int(scores.absent[i]),
            "f1": float(scores.f1[i]),
        }
        for i in rows
    ]


def _examples(of: Analysis, name: str) -> list[dict[str, Any]]:
    """The surest detections with an error of a kind."""
    found, dataset = of.findings.found, of.findings.dataset
    kind = error_kinds.KINDS.index(name)
    return [
        {
            **_image(dataset, int(found.image[i])),
            "class": dataset.class_names[found.labels[i]],
            "score": float(found.scores[i]),
            "box_xyxy": [round(x, 2) for x in found.boxes[i].tolist()],
        }
        for i in image_scores.surest_errors(of.findings, of.errors, kind, NUM_EXAMPLES)
    ]


def _image(dataset: Any, position: int) -> dict[str, Any]:
    image_id = dataset.image_ids[position]
    return {
        "image": str(dataset.names[position]),
        "id": image_id.item() if isinstance(image_id, np.generic) else image_id,
    }
