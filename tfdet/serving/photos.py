"""Images of a data set for an export: to choose ranges from, and to compare in."""

from collections.abc import Iterator

import numpy as np

from tfdet.data import pipeline
from tfdet.data.dataset import DetectionDataset
from tfdet.detectors.base import Detector
from tfdet.serving.verify_pieces import FittedBatch


def some_of(model: Detector, dataset: DetectionDataset | None, most: int) -> list[np.ndarray]:
    """Images from all over a data set, float32 [1, *image_size, 3] each; at most `most`."""
    if dataset is None:
        return []
    index = np.unique(np.linspace(0, len(dataset) - 1, most).astype(int))
    return [batch.canvas for batch in _batches(model, dataset.select(index), 1)]


def first_of(model: Detector, dataset: DetectionDataset, count: int) -> FittedBatch:
    """The first images of a data set as a batch."""
    return next(_batches(model, dataset, count))


def _batches(model: Detector, dataset: DetectionDataset, size: int) -> Iterator[FittedBatch]:
    batches = pipeline.eval_batches(dataset, model.image_size, size, model.pad_value)
    for canvas, targets in batches.as_numpy_iterator():
        yield FittedBatch(canvas, targets["scale"], targets["size"])
