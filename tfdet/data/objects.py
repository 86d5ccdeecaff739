"""The objects of a data set while it is read: columns, no Python object for each."""

import array
import dataclasses
from collections.abc import Sequence

import numpy as np

from tfdet.data.outlines import OutlineCollector


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """T objects as their source has them.

    Attributes:
        boxes: float64 [T, 4], xyxy; NaN where the source has no numbers.
        labels: int64 [T]; -1 for a class that is not in the list.
        is_crowd: bool [T].
        areas: float64 [T]; NaN where the source gives none.
        outlines: of the T objects; None where the source has none at all.
    """

    boxes: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray
    areas: np.ndarray
    outlines: OutlineCollector | None


class ObjectCollector:
    """Takes objects image by image."""

    def __init__(self) -> None:
        self._boxes = array.array("d")
        self._labels = array.array("q")
        self._is_crowd = bytearray()
        self._areas = array.array("d")
        self._outlines = OutlineCollector()
        self._has_outlines = False

    def add(
        self,
        boxes: Sequence,
        labels: Sequence[int],
        is_crowd: Sequence[bool] | None = None,
        areas: Sequence[float] | None = None,
        segmentations: Sequence | None = None,
    ) -> np.ndarray:
        """Takes n objects, see `DatasetBuilder.add_image`, and returns their rows int64 [n]."""
        n = len(boxes)
        rows = np.arange(n) + len(self._labels)
        table = np.zeros((n, 4), np.float64)
        if n:
            table[:] = boxes
        self._boxes.frombytes(table.tobytes())
        self._labels.extend(labels)
        self._is_crowd.extend(bytes(n) if is_crowd is None else map(bool, is_crowd))
        self._areas.extend([np.nan] * n if areas is None else areas)
        for segmentation in [None] * n if segmentations is None else segmentations:
            self._outlines.add(segmentation)
        self._has_outlines |= segmentations is not None
        return rows

    def objects(self) -> Objects:
        """All that were taken."""
        return Objects(
            boxes=np.asarray(self._boxes).reshape(-1, 4),
            labels=np.asarray(self._labels),
            is_crowd=np.array(self._is_crowd, bool),
            areas=np.asarray(self._areas),
            outlines=self._outlines if self._has_outlines else None,
        )
