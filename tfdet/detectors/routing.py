"""Inference of a dynamic detector: each image of a batch takes its own path."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfdet.tensors import Tensor


class Stages(NamedTuple):
    """The three computations of a routed inference; a stage that no image needs is not run.

    Attributes:
        scout: canvas [B, h, w, 3] to (taps, easiness [B]).
        early: taps to the detections of the first detector.
        late: (canvas, taps) to the detections of the second.
    """

    scout: Callable[[Any], tuple[dict[str, Any], Any]]
    early: Callable[[dict[str, Any]], dict[str, Any]]
    late: Callable[[Any, dict[str, Any]], dict[str, Any]]


def is_hard(easiness: Tensor, threshold: Tensor) -> Any:
    """[B] bool: which images go to the second detector.

    At 0 none does and at 1 all do, whatever the scores are; else those less easy than `threshold`.
    """
    threshold = ops.cast(threshold, "float32")
    return ops.logical_and(
        threshold > 0, ops.logical_or(threshold >= 1, ops.less(easiness, threshold))
    )


def no_detections(count: int, mask_size: int = 0) -> dict[str, np.ndarray]:
    """The detections of an image with none, in `count` rows, with masks if these have a size."""
    shape = (count, mask_size, mask_size)
    return {
        "boxes": np.zeros((count, 4), np.float32),
        "scores": np.zeros(count, np.float32),
        "labels": np.full(count, -1, np.int32),
        "count": np.zeros((), np.int32),
        **({"masks": np.zeros(shape, np.float32)} if mask_size else {}),
    }


def route(
    stages: Stages, canvas: Tensor, threshold: Tensor, nothing: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Detections of a batch, image by image from the path that its easiness chooses.

    With TensorFlow each stage runs on the images that need it and on no other. Elsewhere, where
    shapes cannot depend on data, all of them run on all images and the results are selected.

    Args:
        stages: of the detector.
        canvas: float [B, h, w, 3], B may be 0.
        threshold: scalar, or [B].
        nothing: an image's row where there is no detection, as `no_detections` gives it; the stages
            give rows of this form.

    Returns:
        Detections [B, ...], with "easiness" float32 [B] and "is_hard" bool [B].
    """
    if keras.backend.backend() == "tensorflow":
        return _route_rows(stages, canvas, threshold, nothing)
    taps, easiness = stages.scout(canvas)
    hard = is_hard(easiness, threshold)
    early, late = stages.early(taps), stages.late(canvas, taps)
    found = {name: select(hard, late[name], early[name]) for name in early}
    return {**found, "easiness": easiness, "is_hard": hard}


def _route_rows(
    stages: Stages, canvas: Tensor, threshold: Tensor, nothing: dict[str, Tensor]
) -> Tensor:
    from tfdet.ops import conditional

    taps, easiness = conditional.at_least_one(stages.scout, canvas)
    hard = is_hard(easiness, threshold)
    early = conditional.on_rows(stages.early, ops.logical_not(hard), taps, nothing)
    late = conditional.on_rows(lambda x: stages.late(*x), hard, (canvas, taps), nothing)
    found = {name: select(hard, late[name], early[name]) for name in early}
    return {**found, "easiness": easiness, "is_hard": hard}


def with_rows(found: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Detections with `count` rows per image, of which there are fewer now."""
    missing = count - found["scores"].shape[1]
    if not missing:
        return found
    rows = {name: value for name, value in found.items() if name != "count"}
    padded = {
        name: ops.pad(value, ((0, 0), (0, missing), *[(0, 0)] * (len(value.shape) - 2)))
        for name, value in rows.items()
    }
    padded["labels"] = ops.pad(found["labels"], ((0, 0), (0, missing)), constant_values=-1)
    return {**found, **padded}


def select(hard: Tensor, late: Tensor, early: Tensor) -> Tensor:
    """Rows of `late` where an image is hard, of `early` elsewhere."""
    return ops.where(ops.reshape(hard, (-1, *[1] * (len(early.shape) - 1))), late, early)
