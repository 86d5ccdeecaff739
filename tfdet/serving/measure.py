"""Average precision of whatever a driver runs."""

from collections.abc import Callable

import numpy as np

from tfdet.data import pipeline
from tfdet.data.dataset import DetectionDataset
from tfdet.errors import UserError
from tfdet.evaluation import coco
from tfdet.serving.batches import default_batch_size
from tfdet.serving.driver import Driver


def average_precision(
    driver: Driver,
    dataset: DetectionDataset,
    progress: Callable[[int, int], None] | None = None,
    threshold: float | None = None,
) -> float:
    """COCO's AP, 0 to 1, of the detections of a driver; -1 where the data has no objects.

    Args:
        driver: what detects.
        dataset: with the classes of the driver, which are matched by name.
        progress: called with the images done and all.
        threshold: of a dynamic detector, in the place of its own.
    """
    if driver.pad_value is None:
        raise UserError("this export is of an earlier version; export it again to measure it")
    label_map = _label_map(driver, dataset)
    evaluator = coco.CocoEvaluator(dataset)
    size = default_batch_size(driver.image_size)
    done = 0
    batches = pipeline.eval_batches(dataset, driver.image_size, size, driver.pad_value)
    for canvas, targets in batches.as_numpy_iterator():
        found = driver.detect_fitted(canvas, targets["scale"], targets["size"], threshold)
        labels = found["labels"]
        found["labels"] = np.where(labels >= 0, label_map[labels], -1)
        evaluator.add(targets["index"], found)
        done += len(canvas)
        if progress:
            progress(done, len(dataset))
    evaluator.leave_out(set(range(len(dataset))) - evaluator.seen)
    return evaluator.result()["AP"]


def _label_map(driver: Driver, dataset: DetectionDataset) -> np.ndarray:
    """For each label of the driver the data set's label; -1: not in the data."""
    names = driver.class_names
    position = {name: label for label, name in enumerate(dataset.class_names)}
    if not set(names) & set(position):
        if len(names) != len(position):
            raise UserError(
                f"data set {dataset.name} has none of the model's {len(names)} classes "
                f"({', '.join(names[:5])} ...); use a model made for this data"
            )
        return np.arange(len(names))
    return np.asarray([position.get(name, -1) for name in names])
