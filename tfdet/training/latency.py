"""How long a detector takes for one image on this machine, in Python."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.detectors.base import Detector
from tfdet.ops.as_written import as_written

SAMPLES = 3
_REPEATS = 7
_WARM_UPS = 2


def milliseconds(model: Detector, canvases: Sequence[Any]) -> float:
    """Milliseconds for one image, from the canvas to detections: the median of some, at batch 1.

    An export is faster, by about a third on a CPU.

    Args:
        model: with variables; random ones will do, and take the same time up to NMS.
        canvases: images float [1, *model.image_size, 3].
    """
    spec = tf.TensorSpec([1, *model.image_size, 3], tf.float32)
    detect = tf.function(as_written(model.detect_fitted), input_signature=[spec])
    seconds = []
    for canvas in canvases:
        for repeat in range(-_WARM_UPS, _REPEATS):
            start = time.perf_counter()
            tf.nest.map_structure(np.asarray, detect(tf.cast(canvas, tf.float32)))
            if repeat >= 0:
                seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds))
