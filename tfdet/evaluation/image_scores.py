"""How well each image went: its hits, its mistakes, and which images went worst."""

import dataclasses

import numpy as np

from tfdet.evaluation.error_kinds import Errors
from tfdet.evaluation.findings import Findings
from tfdet.evaluation.matching import Matches


@dataclasses.dataclass(frozen=True, eq=False)
class ImageScores:
    """Counts for each of the images that were measured, int64 [N].

    Attributes:
        images: positions in the data set.
        hits: objects that were found.
        wrong: detections that are no hit.
        absent: objects that were not found.
    """

    images: np.ndarray
    hits: np.ndarray
    wrong: np.ndarray
    absent: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """float64 [N]; 1 where there is nothing to find and nothing was found."""
        total = 2 * self.hits + self.wrong + self.absent
        return np.divide(2 * self.hits, total, out=np.ones(len(total)), where=total > 0)

    def worst(self, count: int) -> np.ndarray:
        """Rows of the images with the lowest F1, of equal ones those with most mistakes first.

        Images without a mistake are not among them.
        """
        mistakes = self.wrong + self.absent
        order = np.lexsort((-mistakes, self.f1))
        return order[mistakes[order] > 0][:count]


def image_scores(findings: Findings, matches: Matches, threshold: float) -> ImageScores:
    """The counts of each image.

    Args:
        findings: the truth and the detections.
        matches: of them.
        threshold: detections below this score are taken for absent.
    """
    truth, found, size = findings.truth, findings.found, len(findings.dataset)
    is_sure = found.scores >= threshold

    def per_image(image: np.ndarray) -> np.ndarray:
        return np.bincount(image, minlength=size)[findings.images]

    hits = per_image(found.image[matches.is_hit & is_sure])
    wrong = per_image(found.image[matches.is_wrong & is_sure])
    objects = per_image(truth.image[matches.is_counted])
    return ImageScores(findings.images, hits, wrong, objects - hits)


def surest_errors(findings: Findings, errors: Errors, kind: int, count: int) -> np.ndarray:
    """Detections with an error of a kind, the surest first, one of each image; rows of `Found`."""
    rows = np.flatnonzero(errors.kind == kind)
    _, first = np.unique(findings.found.image[rows], return_index=True)
    return rows[np.sort(first)][:count]
