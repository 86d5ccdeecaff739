"""Measures what a dynamic detector's knob does on the images of a data set."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.backbones.grid import CLOSED
from tfdet.data import pipeline
from tfdet.data.dataset import DetectionDataset
from tfdet.detectors.calibration import Calibration, mixed
from tfdet.errors import UserError

_SAMPLES = 5
_REPEATS = 7
_WARM_UPS = 2
# Thresholds at which a grid is measured, beside the one that closes all gates.
_POSITIONS = 20


def calibrate(
    model: Any,
    batches: Iterable[Any],
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """The table of a dynamic detector on the images of `batches`, see `Calibration`.

    Args:
        model: a `DynamicDetector`, or a `CADDet` with routers.
        batches: of images, or of (images, targets), as `fit` takes them.
        progress: called with the images done after each batch.
    """
    if model.stages is None:
        return _calibrate_gates(model, batches, progress)
    score = tf.function(lambda canvas: model.stages.scout(canvas)[1])
    scores, samples = [], []
    for canvas in _canvases(model, batches):
        scores.append(score(canvas).numpy())
        samples += list(canvas[: _SAMPLES - len(samples)])
        if progress:
            progress(sum(map(len, scores)))
    if not scores:
        raise UserError("calibration needs at least one image")
    easiness = np.concatenate(scores)
    return Calibration.from_scores(easiness, model.cost_ends, latency_ms(model, samples))


def _calibrate_gates(
    model: Any, batches: Iterable[Any], progress: Callable[[int], None] | None
) -> Calibration:
    """The table of a CADDet, from the backbone at each of `_POSITIONS` thresholds.

    Each is run, and not counted from the gates at 1e-4: a path that closes changes what later
    routers see.
    """

    canvas_spec = tf.TensorSpec([None, *model.image_size, 3], tf.float32)

    @tf.function(input_signature=[canvas_spec, tf.TensorSpec([], tf.float32)])
    def share(canvas: tf.Tensor, threshold: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        gates = model.open_maps(canvas, threshold)["gates"]
        return gates, model.cost.hard(gates)

    thresholds, totals, samples, images = None, 0.0, [], 0
    for canvas in _canvases(model, batches):
        if thresholds is None:
            thresholds = _gate_thresholds(share(canvas, tf.constant(CLOSED))[0].numpy())
        # Nothing is open at the first, 1.
        shares = [share(canvas, tf.constant(x, tf.float32))[1].numpy() for x in thresholds[1:]]
        totals = totals + np.array([0.0, *(x.sum(dtype=np.float64) for x in shares)])
        samples += list(canvas[: _SAMPLES - len(samples)])
        images += len(canvas)
        if progress:
            progress(images)
    if not images:
        raise UserError("calibration needs at least one image")
    latency = latency_ms(model, samples)
    return Calibration.from_shares(images, thresholds, totals / images, model.cost_ends, latency)


def _gate_thresholds(gates: np.ndarray) -> np.ndarray:
    """[T] from 1 down to 1e-4; between these, equal parts of the open gates [B, gates] close."""
    values = gates[gates >= CLOSED]
    inner = np.quantile(values, np.arange(1, _POSITIONS) / _POSITIONS) if values.size else []
    return np.array([1.0, *np.unique(inner)[::-1], CLOSED])


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
    """Milliseconds of one image in Python, see `cheap_and_dear`."""
    spec = tf.TensorSpec([1, *model.image_size, 3], tf.float32)
    detect = tf.function(model.detect_fitted)
    return cheap_and_dear(model, detect.get_concrete_function(spec, tf.TensorSpec([])), samples)


def cheap_and_dear(
    model: Any, run: Callable[..., Any], samples: Sequence[Any]
) -> tuple[float, float]:
    """Mean milliseconds of an image with all skipped that can be, and with nothing skipped.

    The images do not open the whole grid of a CADDet; the time that would take is what the part
    which they open takes, scaled.

    Args:
        model: the detector.
        run, samples: see `time_paths`.
    """
    at_zero, at_one = time_paths(run, samples)
    if model.stages is not None:
        return at_zero, at_one
    cheap, dear = model.cost_ends
    zero = tf.constant(0.0)
    macs = np.mean([run(tf.cast(x, tf.float32)[None], zero)["macs"].numpy() for x in samples])
    share = (float(macs) - cheap) / (dear - cheap)
    return at_one, float(mixed((at_one, at_zero), 1 / share if share else 1.0))


def time_paths(run: Callable[..., Any], samples: Sequence[Any]) -> tuple[float, float]:
    """Mean milliseconds of an image in `run(canvas, threshold)` at the thresholds 0 and 1.

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
    at_zero, at_one = (1e3 * float(np.median(x, axis=1).mean()) for x in seconds.values())
    return at_zero, at_one
