"""Two detectors on the same images: what each of them finds, and where they differ."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfdet.errors import UserError
from tfdet.evaluation import coco
from tfdet.evaluation.analysis import Analysis

NUM_IMAGES = 100  # that are listed, with more and with fewer mistakes


def found_objects(of: Analysis) -> np.ndarray:
    """Which objects have a detection with the best threshold's score or more, bool [T]."""
    matches = of.matches
    is_sure = of.findings.found.scores >= of.threshold
    is_found = np.zeros(len(of.findings.truth), bool)
    is_found[matches.truth[matches.is_hit & is_sure]] = True
    return is_found


def compared(
    this: Analysis,
    other: Analysis,
    metrics: Mapping[str, float],
    other_metrics: Mapping[str, float],
) -> dict[str, Any]:
    """Figures of both detectors, each at its own best threshold.

    Args:
        this: the analysis of one detector.
        other: of the other one, on the same images and classes.
        metrics: of this one, as `CocoEvaluator.result` returns them.
        other_metrics: of the other one.

    Returns:
        "metrics", "threshold" and "errors" (counts at the threshold, by kind) of the other;
        "objects", how many were found by "both", "only_this", "only_other" and "neither";
        "classes", the same by class with the "AP" and the "other_AP", those that lost most AP
        first; "worse" and "better", images with more and with fewer mistakes than the other made,
        the largest difference first, at most `NUM_IMAGES` each; "images", how many there are.
    """
    if not np.array_equal(this.findings.truth.rows, other.findings.truth.rows):
        raise UserError("the two detectors were measured on different objects")
    is_counted = this.matches.is_counted
    own, others = found_objects(this), found_objects(other)
    return {
        "metrics": {name: other_metrics[name] for name in coco.METRICS},
        "threshold": other.threshold,
        "errors": other.sure_errors.counts(),
        "objects": _sides(own[is_counted], others[is_counted]),
        "classes": _class_rows(this, own, others, metrics, other_metrics),
        **_image_rows(this, other),
    }


def _sides(own: np.ndarray, others: np.ndarray) -> dict[str, int]:
    return {
        "both": int((own & others).sum()),
        "only_this": int((own & ~others).sum()),
        "only_other": int((~own & others).sum()),
        "neither": int((~own & ~others).sum()),
    }


def _class_rows(
    this: Analysis,
    own: np.ndarray,
    others: np.ndarray,
    metrics: Mapping[str, float],
    other_metrics: Mapping[str, float],
) -> list[dict[str, Any]]:
    labels, is_counted = this.findings.truth.labels, this.matches.is_counted
    rows = []
    for label, name in enumerate(this.findings.dataset.class_names):
        of_class = is_counted & (labels == label)
        if of_class.any():
            aps = {"AP": metrics[f"AP/{name}"], "other_AP": other_metrics[f"AP/{name}"]}
            rows.append({"class": name, **aps, **_sides(own[of_class], others[of_class])})
    return sorted(rows, key=lambda row: row["AP"] - row["other_AP"])


def _image_rows(this: Analysis, other: Analysis) -> dict[str, Any]:
    own, others = this.images, other.images
    dataset = this.findings.dataset
    mistakes, other_mistakes = own.wrong + own.absent, others.wrong + others.absent
    more = mistakes - other_mistakes

    def rows(order: np.ndarray) -> list[dict[str, Any]]:
        return [
            {
                "image": str(dataset.names[own.images[i]]),
                "id": np.asarray(dataset.image_ids[own.images[i]]).item(),
                "mistakes": int(mistakes[i]),
                "other_mistakes": int(other_mistakes[i]),
            }
            for i in order
        ]

    order = np.argsort(-more, kind="stable")
    worse, better = order[more[order] > 0], order[::-1][more[order[::-1]] < 0]
    return {
        "images": {"worse": len(worse), "better": len(better)},
        "worse": rows(worse[:NUM_IMAGES]),
        "better": rows(better[:NUM_IMAGES]),
    }


def sentence(name: str, figures: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """The comparison in a few words.

    Args:
        name: of the other detector.
        figures: what `compared` returns.
        metrics: of this detector.
    """
    objects, ap = figures["objects"], figures["metrics"]["AP"]
    return (
        f"{name}: AP {100 * ap:.1f}, here {100 * metrics['AP']:.1f}; found by both "
        f"{objects['both']} objects, by this detector alone {objects['only_this']}, by the other "
        f"alone {objects['only_other']}, by neither {objects['neither']}; "
        f"{figures['images']['worse']} images with more mistakes than there, "
        f"{figures['images']['better']} with fewer"
    )
