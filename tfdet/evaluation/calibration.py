"""Measures what a dynamic detector's knob does: the scores of a data set, and the two times."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.data import pipeline
from tfdet.data.dataset import DetectionDataset
from tfdet.detectors.calibration import Calibration
from tfdet.errors import UserError

_SAMPLES = 5
_REPEATS = 7
_WARM_UPS = 2


def calibrate(
    model: Any,
    batches: Iterable[Any],
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """The table of a `DynamicDetector` on the images of `batches`, see `Calibration`.

    Args:
        model: the detector.
        batches: of images, or of (images, targets), as `fit` takes them.
        progress: called with the images done after each batch.
    """
    score = tf.function(lambda canvas: model.stages.scout(canvas)[1])
    scores, samples = [], []
    for canvas in _canvases(model, batches):
        scores.append(score(canvas).numpy())
        samples += list(canvas[: _SAMPLES - len(samples)])
        if progress:
            progress(sum(map(len, scores)))
    if not scores:
        raise UserError("calibration needs at least one image")
    macs = model.route_macs["early"], model.route_macs["late"]
    return Calibration.from_scores(np.concatenate(scores), macs, latency_ms(model, samples))


def _canvases(model: Any, batches: Iterable[Any]) -> Iterator[tf.Tensor]:
    """Images [B, H, W, 3] of the network's size."""
    from tfdet.ops.letterbox import letterbox

    for batch in batches:
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        if len(images):
            yield letterbox(images, model.image_size, model.pad_value)[0]


def sample_canvases(model: Any, dataset: DetectionDataset) -> list[tf.Tensor]:
    """The first images [H, W, 3] of a data set, fitted to the network's size."""
    batches = pipeline.eval_batches(dataset, model.image_size, 1, model.pad_value)
    return [images[0] for images, _ in batches.take(_SAMPLES)]


def latency_ms(model: Any, samples: Sequence[Any]) -> tuple[float, float]:
    """Milliseconds of one image on the early and on the late path, in Python; see `time_paths`."""
    spec = tf.TensorSpec([1, *model.image_size, 3], tf.float32)
    detect = tf.function(model.detect_fitted)
    return time_paths(detect.get_concrete_function(spec, tf.TensorSpec([])), samples)


def time_paths(run: Callable[..., Any], samples: Sequence[Any]) -> tuple[float, float]:
    """Mean milliseconds of an image in `run(canvas, threshold)`, none hard, and all hard.

    The two are taken in turn, so that a machine whose speed drifts slows both alike. Images and
    not noise, in which a detector finds hundreds of objects that suppression takes its time for.

    Args:
        run: takes float32 [1, H, W, 3] and the threshold.
        samples: images [H, W, 3] of the network's size.
    """
    seconds = {threshold: np.zeros((len(samples), _REPEATS)) for threshold in (0.0, 1.0)}
    for i, sample in enumerate(samples):
        canvas = tf.cast(sample, tf.float32)[None]
        for repeat in range(-_WARM_UPS, _REPEATS):
            for threshold, times in seconds.items():
                start = time.perf_counter()
                tf.nest.map_structure(np.asarray, run(canvas, tf.constant(threshold)))
                if repeat >= 0:
                    times[i, repeat] = time.perf_counter() - start
    early, late = (1e3 * float(np.median(x, axis=1).mean()) for x in seconds.values())
    return early, late
