"""Measures what a dynamic detector's knob does: the scores of a data set, and the two times."""

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.detectors.calibration import Calibration

_REPEATS = 15
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
    scores = list(_scores(model, batches, progress))
    easiness = np.concatenate(scores) if scores else np.zeros(0, np.float32)
    macs = model.route_macs["early"], model.route_macs["late"]
    return Calibration.from_scores(easiness, macs, latency_ms(model))


def _scores(
    model: Any, batches: Iterable[Any], progress: Callable[[int], None] | None
) -> Iterable[np.ndarray]:
    from tfdet.ops.letterbox import letterbox

    @tf.function(input_signature=[tf.TensorSpec([None, *model.image_size, 3], tf.float32)])
    def score(canvas: tf.Tensor) -> tf.Tensor:
        return model.stages.scout(canvas)[1]

    done = 0
    for batch in batches:
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        if not len(images):
            continue
        canvas, _ = letterbox(images, model.image_size, model.pad_value)
        yield score(canvas).numpy()
        done += len(images)
        if progress:
            progress(done)


def latency_ms(model: Any) -> tuple[float, float]:
    """Milliseconds of one image on the early and on the late path, in Python."""
    spec = tf.TensorSpec([1, *model.image_size, 3], tf.float32)
    detect = tf.function(model.detect_fitted)
    run = detect.get_concrete_function(spec, tf.TensorSpec([], tf.float32))
    return time_paths(run, model.image_size)


def time_paths(run: Callable[..., Any], image_size: tuple[int, int]) -> tuple[float, float]:
    """Median milliseconds of `run(canvas, threshold)` with nothing hard, and with all hard.

    Both are taken in turn, so that a machine whose speed drifts slows both alike.
    """
    canvas = tf.random.stateless_uniform((1, *image_size, 3), seed=(0, 0), maxval=255.0)
    seconds: dict[float, list[float]] = {0.0: [], 1.0: []}
    for _ in range(_WARM_UPS + _REPEATS):
        for threshold, times in seconds.items():
            start = time.perf_counter()
            tf.nest.map_structure(np.asarray, run(canvas, tf.constant(threshold)))
            times.append(time.perf_counter() - start)
    early, late = (1e3 * statistics.median(times[_WARM_UPS:]) for times in seconds.values())
    return early, late
