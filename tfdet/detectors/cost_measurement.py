"""Measures what a dynamic detector costs at each effort on some images; with TensorFlow."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdet.detectors.calibration import Calibration, mixed
from tfdet.errors import UserError
from tfdet.ops.as_written import as_written

if TYPE_CHECKING:
    import tensorflow as tf

    from tfdet.data.dataset import DetectionDataset
    from tfdet.detectors.dynamic import Dynamic

_SAMPLES = 5
_REPEATS = 7
_WARM_UPS = 2
# Thresholds that are tried, beside the one of effort 0.
_POSITIONS = 20


def calibrate(
    model: "Dynamic",
    batches: Iterable[Any],
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """The table of a dynamic detector on the images of `batches`, see `Calibration`.

    Args:
        model: the detector; its `measure` decides how.
        batches: of images, or of (images, targets), as `fit` takes them.
        progress: called with the images done after each batch.
    """
    samples: list[Any] = []

    def canvases() -> "Iterator[tf.Tensor]":
        done = 0
        for canvas in _canvases(model, batches):
            samples.extend(canvas[: _SAMPLES - len(samples)])
            yield canvas
            done += len(canvas)
            if progress:
                progress(done)

    table = model.measure(canvases())
    return table.with_latency(latency_ms(model, samples))


def from_scores(
    score: "Callable[[tf.Tensor], tf.Tensor]",
    canvases: "Iterable[tf.Tensor]",
    macs: tuple[float, float],
) -> Calibration:
    """The table where images below the threshold take the expensive one of two paths.

    Args:
        score: images [B, H, W, 3] to what is compared with the threshold, [B].
        canvases: batches of images.
        macs: multiply-adds of both paths.
    """
    import tensorflow as tf

    score = tf.function(as_written(score))
    scores = [score(canvas).numpy() for canvas in canvases]
    return Calibration.from_scores(np.concatenate(scores or [np.zeros(0)]), macs)


def from_trials(model: "Dynamic", canvases: "Iterable[tf.Tensor]") -> Calibration:
    """The table from what is computed at each of `_POSITIONS` thresholds.

    Each is tried, and not counted from the scores at effort 1: what is skipped may change what
    later routers see.
    """
    import tensorflow as tf

    canvas_spec = tf.TensorSpec([None, *model.image_size, 3], tf.float32)

    @tf.function(input_signature=[canvas_spec, tf.TensorSpec([], tf.float32)])
    @as_written
    def shares(canvas: "tf.Tensor", threshold: "tf.Tensor") -> "tuple[tf.Tensor, tf.Tensor]":
        return model.shares(canvas, threshold)

    thresholds, totals, images = None, np.zeros(1), 0
    for canvas in canvases:
        if thresholds is None:
            scores, _ = shares(canvas, tf.constant(model.threshold_ends[1]))
            thresholds = _thresholds(scores.numpy(), model.threshold_ends)
        # Nothing that can be skipped is computed at the first.
        found = [shares(canvas, tf.constant(x, tf.float32))[1].numpy() for x in thresholds[1:]]
        totals = totals + np.array([0.0, *(x.sum(dtype=np.float64) for x in found)])
        images += len(canvas)
    if thresholds is None:
        raise UserError("calibration needs at least one image")
    return Calibration.from_shares(images, thresholds, totals / images, model.cost_ends)


def _thresholds(scores: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """[T] from the one of effort 0 to the one of effort 1; equal parts of the scores between."""
    low, high = sorted(ends)
    values = scores[scores >= low]
    inner = np.quantile(values, np.arange(1, _POSITIONS) / _POSITIONS) if values.size else []
    rising = np.clip(np.unique(inner), low, high)
    return np.array([ends[0], *(rising if ends[0] < ends[1] else rising[::-1]), ends[1]])


def _canvases(model: "Dynamic", batches: Iterable[Any]) -> "Iterator[tf.Tensor]":
    """Images [B, H, W, 3] of the network's size."""
    from tfdet.ops.letterbox import letterbox

    for batch in batches:
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        if len(images):
            yield letterbox(images, model.image_size, model.pad_value)[0]


def sample_canvases(model: "Dynamic", dataset: "DetectionDataset") -> "list[tf.Tensor]":
    """The first images [H, W, 3] of a data set, fitted to the network's size."""
    from tfdet.data import pipeline

    batches = pipeline.eval_batches(dataset, model.image_size, 1, model.pad_value)
    return [images[0] for images, _ in batches.take(_SAMPLES)]


def latency_ms(model: "Dynamic", samples: Sequence[Any]) -> tuple[float, float]:
    """Milliseconds of one image in Python, see `least_and_most`."""
    import tensorflow as tf

    spec = tf.TensorSpec([1, *model.image_size, 3], tf.float32)
    detect = tf.function(as_written(lambda canvas, at: model.detect_fitted(canvas, at)))
    return least_and_most(model, detect.get_concrete_function(spec, tf.TensorSpec([])), samples)


def least_and_most(
    model: "Dynamic", run: Callable[..., Any], samples: Sequence[Any]
) -> tuple[float, float]:
    """Mean milliseconds of an image with all skipped that can be, and with nothing skipped.

    Images need not open all of a CADDet's grid at effort 1. The time that all of it would take is
    what the part takes that they open, scaled.

    Args:
        model: the detector.
        run, samples: see `time_paths`.
    """
    import tensorflow as tf

    at_least, at_most = time_paths(run, samples, model.threshold_ends)
    least, most = model.cost_ends
    end = tf.constant(model.threshold_ends[1], tf.float32)
    macs = np.mean([np.asarray(run(tf.cast(x, tf.float32)[None], end)["macs"]) for x in samples])
    share = (float(macs) - least) / (most - least)
    return at_least, float(mixed((at_least, at_most), 1 / share if share else 1.0))


def time_paths(
    run: Callable[..., Any], samples: Sequence[Any], thresholds: tuple[float, float]
) -> tuple[float, float]:
    """Mean milliseconds of an image in `run(canvas, threshold)` at two thresholds.

    The two are taken in turn, so that a machine whose speed drifts slows both alike. Images and
    not noise, in which a detector finds hundreds of objects that suppression takes its time for.

    Args:
        run: takes float32 [1, H, W, 3] and the threshold.
        samples: images [H, W, 3] of the network's size.
        thresholds: the two.
    """
    import tensorflow as tf

    seconds = {threshold: np.zeros((len(samples), _REPEATS)) for threshold in thresholds}
    for i, sample in enumerate(samples):
        canvas = tf.cast(sample, tf.float32)[None]
        for repeat in range(-_WARM_UPS, _REPEATS):
            for threshold, times in seconds.items():
                start = time.perf_counter()
                tf.nest.map_structure(np.asarray, run(canvas, tf.constant(threshold, tf.float32)))
                if repeat >= 0:
                    times[i, repeat] = time.perf_counter() - start
    first, second = (1e3 * float(np.median(x, axis=1).mean()) for x in seconds.values())
    return first, second
