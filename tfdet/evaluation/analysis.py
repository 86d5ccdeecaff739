"""Everything that explains an AP, computed once: the report's figures and pictures come from it."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdet.evaluation import error_kinds, image_scores, matching, overlaps, precision_recall
from tfdet.evaluation.error_kinds import Errors
from tfdet.evaluation.findings import Findings
from tfdet.evaluation.matching import Matches
from tfdet.evaluation.overlaps import Pairs
from tfdet.evaluation.precision_recall import Curve, Threshold

# Where no detection is right, so that no threshold is best: the one of a training's pictures.
NO_BEST = 0.3


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
    """Truth and detections, and who has whom at an IoU of 0.5.

    Attributes:
        findings: the truth and the detections.
        pairs: their overlaps.
        matches: at an IoU of 0.5.
        errors: of all detections, whatever their score.
    """

    findings: Findings
    pairs: Pairs
    matches: Matches
    errors: Errors

    @functools.cached_property
    def best(self) -> Threshold | None:
        """The threshold that is best for all classes together; None without a hit."""
        curve = precision_recall.curve_of_all(self.findings, self.matches)
        return precision_recall.best_threshold(curve)

    @property
    def threshold(self) -> float:
        """The score from which detections are counted and drawn: the best one."""
        return self.best.threshold if self.best else NO_BEST

    @functools.cached_property
    def sure_errors(self) -> Errors:
        """The errors that are left where detections below the threshold are absent."""
        return error_kinds.errors_of(self.findings, self.pairs, self.matches, self.threshold)

    @functools.cached_property
    def images(self) -> image_scores.ImageScores:
        """Hits and mistakes of each image, at the threshold."""
        return image_scores.image_scores(self.findings, self.matches, self.threshold)

    def curves(self, iou: float) -> list[Curve]:
        """Precision and recall of each class at an overlap."""
        at_half = iou == error_kinds.FOREGROUND_IOU
        matches = self.matches if at_half else matching.match(self.findings, self.pairs, iou)
        return precision_recall.curves(self.findings, matches)


def analyse(findings: Findings, of_masks: bool = False) -> Analysis:
    """The analysis of boxes, or of masks where the detections have them."""
    pairs = overlaps.of_masks(findings) if of_masks else overlaps.of_boxes(findings)
    return Analysis(findings, pairs, *error_kinds.kinds_of(findings, pairs))


def class_rows(analysis: Analysis, metrics: dict[str, float], prefix: str = "") -> list[Any]:
    """A row of plain numbers for each class.

    Args:
        analysis: of boxes or masks.
        metrics: as `CocoEvaluator.result` returns them, for the AP of each class.
        prefix: of the names in `metrics`, "mask/" for masks.

    Returns:
        Rows with "class", "objects", "detections", "AP", "AP50", "AP75", -1 without objects;
        "best", the threshold of the highest F1 with its "f1", "precision" and "recall", or None;
        "precision50" and "precision75", the precision at the recalls 0, 0.01, ... 1.
    """
    findings = analysis.findings
    counts = np.bincount(findings.found.labels, minlength=findings.num_classes)
    rows = []
    for label, (half, strict) in enumerate(
        zip(analysis.curves(0.5), analysis.curves(0.75), strict=True)
    ):
        name, best = findings.dataset.class_names[label], precision_recall.best_threshold(half)
        rows.append(
            {
                "class": name,
                "objects": half.num_objects,
                "detections": int(counts[label]),
                "AP": metrics[f"{prefix}AP/{name}"],
                "AP50": half.ap,
                "AP75": strict.ap,
                "best": dataclasses.asdict(best) if best else None,
                "precision50": _short(half.envelope()),
                "precision75": _short(strict.envelope()),
            }
        )
    return rows


def threshold_rows(analysis: Analysis) -> dict[str, Any]:
    """Precision, recall and F1 of all classes together, at the scores 0, 0.01, ... 1."""
    curve = precision_recall.curve_of_all(analysis.findings, analysis.matches)
    scores = np.linspace(0, 1, 101)
    kept = np.searchsorted(-curve.scores, -scores, side="right")

    def at(values: np.ndarray, of_none: float) -> list[float]:
        return _short(np.append(of_none, values)[kept])

    return {
        "threshold": _short(scores),
        "precision": at(curve.precision, 1.0),
        "recall": at(curve.recall, 0.0),
        "f1": at(curve.f1, 0.0),
    }


def _short(values: Sequence[float] | np.ndarray) -> list[float]:
    return [round(float(x), 5) for x in values]
