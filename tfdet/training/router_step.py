"""What training a router needs beside the steps of `fit`."""

import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from tfdet.data import pipeline
from tfdet.data.dataset import DetectionDataset
from tfdet.detectors.base import Detector
from tfdet.detectors.calibration import Calibration, threshold_of_share
from tfdet.detectors.dynamic import Dynamic
from tfdet.detectors.dynamicdet import DynamicDetector
from tfdet.evaluation import sharing
from tfdet.evaluation.cascade_tradeoff import BothPaths
from tfdet.ops.as_written import as_written
from tfdet.training import trained

# Where a router is measured: its own threshold would have the score follow the share of hard
# images, and not which ones they are.
MEASURED_SHARE = 0.5


def trains_router(model: Detector) -> bool:
    """Whether the model is a cascade in its router step."""
    return isinstance(model, DynamicDetector) and model.config.step == "router"


def measure_offset(model: DynamicDetector, batches: Iterable[Any]) -> None:
    """Sets the offset to the median gain of all images of `batches`, the paper's form."""

    record = model.record
    assert record is not None, "the router step has one"

    @tf.function
    @as_written
    def collect(images: tf.Tensor, targets: dict[str, tf.Tensor]) -> None:
        first, second = model.losses_of_paths(targets, model(images, training=False))
        record.collect(first - second)

    for images, targets in batches:
        collect(images, targets)
    record.settle()


def measure_function(
    model: DynamicDetector,
    dataset: DetectionDataset,
    batch_size: int,
    progress: Callable[..., Any],
    share_with: sharing.Sharing = sharing.ALONE,
) -> Callable[[], dict[str, float]]:
    """Gives the COCO numbers with half of the images on the late path, and their threshold.

    Of several processes the first one alone; {} in the others.
    """
    both = BothPaths(model, dataset, batch_size, share_with)

    def measure() -> dict[str, float]:
        paths = both.run(progress())
        if share_with.shard[0]:
            return {}
        threshold = float(threshold_of_share(paths.easiness, MEASURED_SHARE))
        return {**paths.metrics(paths.hard_at(threshold)), "threshold": threshold}

    return measure


def calibrate(
    model: Dynamic, model_dir: str | pathlib.Path, dataset: DetectionDataset, batch_size: int
) -> tuple[pathlib.Path, Calibration]:
    """Calibrates a model with the best weights of a training folder; keeps the table there."""
    batches = pipeline.eval_batches(dataset, model.image_size, batch_size, model.pad_value)
    table = model.calibrate(batches)
    weights = trained.weights_file(model_dir).name
    return trained.write_calibration(model_dir, weights, table), table
