"""Base class of detectors whose cost is chosen at inference."""

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from keras import ops

from tfdet import profiling, records
from tfdet.detectors.base import Detector
from tfdet.detectors.calibration import Calibration
from tfdet.detectors.setting import Setting
from tfdet.errors import UserError
from tfdet.tensors import Tensor

# What every detector finds in an image; a dynamic one reports more about it.
_DETECTIONS = ("boxes", "scores", "labels", "count", "masks")


class NotCalibrated(UserError, AttributeError):
    """An effort was asked for, or set, of a model without a calibration.

    An `AttributeError`, since Keras reads an attribute before it sets it, and passes over these
    alone: the efforts 0 and 1 can be set whatever the threshold is.
    """


class Dynamic(Detector):
    """A detector that computes for an image what the image needs.

    Its router scores images, and the `threshold` is what scores are compared with: each paper
    defines what that means, and published thresholds keep their meaning. `effort` means the same
    everywhere, from 0, the least that the detector can do, to 1, all that it does. An image is
    expected to cost `least + effort * (most - least)` multiply-adds; of a cascade that is the share
    of the images that go to the second detector. `calibrate` measures which threshold each effort
    needs.

    Detections have, beside those of `Detector`, what is reported about each image:

    - `macs`: float32 [B], the multiply-adds that the image cost;
    - the scores of the router, under the name that `score` has, [B] or [B, ...];
    - `is_hard`: bool [B], where images take one of two paths: whether it was the expensive one.

    A subclass is a detector, and has `detect_routed`, `paths` and `score`. All else (calibration,
    trade-off, export, the commands) follows; what can be done better for a family is overridden:
    `cost_ends`, `measure`, `shares`, `freeze`.

    Example:
        model.calibrate(batches)
        model.effort = 0.3
        detections = model.predict(images)

    Args:
        config, loss_names: see `Detector`.
        threshold: of a new model.

    Attributes:
        calibration: the table from effort to threshold; None before `calibrate`.
        score: name of the scores in the detections.
        threshold_ends: the thresholds of the efforts 0 and 1, whatever the scores are.
        takes_threshold_per_image: whether `freeze` returns a function that also takes a threshold
            for each image, [B].
    """

    score: ClassVar[str]
    threshold_ends: ClassVar[tuple[float, float]] = (0.0, 1.0)
    takes_threshold_per_image: ClassVar[bool] = False

    calibration: Calibration | None = None

    def __init__(self, config: Any, loss_names: tuple[str, ...], threshold: float, **kwargs: Any):
        super().__init__(config, loss_names, **kwargs)
        self._threshold = Setting(threshold, "threshold")

    @property
    def is_dynamic(self) -> bool:
        return True

    def detect_routed(self, canvas: Tensor, threshold: Tensor) -> dict[str, Any]:
        """Detections and reports of `canvas`, computed without what is skipped.

        Args:
            canvas: float [B, *image_size, 3].
            threshold: float32 [].
        """
        raise NotImplementedError

    def detect_fitted(
        self, canvas: Tensor, threshold: Tensor = None, effort: float | None = None
    ) -> dict[str, Tensor]:
        """As `Detector.detect_fitted`, with `threshold` or `effort` in the place of the model's."""
        if effort is not None:
            threshold = self.threshold_for(effort=effort)
        if threshold is None:
            threshold = ops.convert_to_tensor(self._threshold.variable)
        return self.detect_routed(canvas, threshold)

    @property
    def threshold(self) -> float:
        """What the scores of the router are compared with, 0 to 1."""
        return float(self._threshold)

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        if not 0 <= threshold <= 1:
            raise UserError(f"threshold must be between 0 and 1, got {threshold}")
        self._threshold.variable.assign(threshold)

    @property
    def effort(self) -> float:
        """How much is computed, from 0 (the least) to 1 (everything)."""
        threshold, (least, most) = self.threshold, np.asarray(self.threshold_ends, np.float32)
        sign = 1.0 if most > least else -1.0
        if sign * threshold <= sign * least:
            return 0.0
        if sign * threshold >= sign * most:
            return 1.0
        return self._table().effort_at(threshold)

    @effort.setter
    def effort(self, effort: float) -> None:
        self.threshold = self.threshold_for(effort=effort)

    @property
    def knob(self) -> float:
        """The old name of `threshold`."""
        _warn_of_knob()
        return self.threshold

    @knob.setter
    def knob(self, threshold: float) -> None:
        _warn_of_knob()
        self.threshold = threshold

    def threshold_for(self, **target: float) -> float:
        """The threshold for an effort, a cost or a latency: `Calibration.threshold_for`.

        The efforts 0 and 1 need no calibration.
        """
        ends = dict(zip((0.0, 1.0), self.threshold_ends, strict=True))
        if target.keys() == {"effort"} and target["effort"] in ends:
            return ends[target["effort"]]
        return self._table().threshold_for(**target)

    def effort_for(self, **target: float) -> float:
        """The effort for a cost or a latency: `Calibration.effort_for`."""
        return self._table().effort_for(**target)

    def _table(self) -> Calibration:
        if self.calibration is None:
            raise NotCalibrated(
                f"{self.name} has not been calibrated, so that only its threshold and the efforts "
                "0 and 1 can be set; call `calibrate(images)` or run `tfdet-eval --calibrate`"
            )
        return self.calibration

    def calibrate(
        self, batches: Iterable[Any], progress: Callable[[int], None] | None = None
    ) -> Calibration:
        """Measures what each effort costs and which threshold it needs; keeps the `calibration`.

        Args:
            batches: images of the kind that will be detected in, or (images, targets).
            progress: called with the images done after each batch.
        """
        from tfdet.detectors import cost_measurement

        self.calibration = cost_measurement.calibrate(self, batches, progress)
        return self.calibration

    @property
    def cost_ends(self) -> tuple[int, int]:
        """Multiply-adds of an image with an effort of 0 and of 1: of the first and last of `paths`.

        Those of the form for inference, which is what an image costs in the end.
        """
        first, *_, last = self.inference_profile.routes.values()
        return first, last

    @functools.cached_property
    def inference_profile(self) -> profiling.Profile:
        """Counts of the form for inference."""
        return profiling.profile_unbuilt(self.inference_form)

    def compute_output_spec(
        self, images: Tensor, training: bool | None = None
    ) -> dict[str, Tensor]:
        return self.call(images, training=training)

    def full_path(self, images: Tensor) -> Any:
        return list(self.paths.values())[-1](images)

    def measure(self, canvases: Iterable[Any]) -> Calibration:
        """The table without times (0), from images [B, *image_size, 3] that can be gone over once.

        This one tries thresholds. Where `score` is one number per image, which sends it down one of
        two paths, `cost_measurement.from_scores` needs to see each image but once.
        """
        from tfdet.detectors import cost_measurement

        return cost_measurement.from_trials(self, canvases)

    def shares(self, canvas: Tensor, threshold: Tensor) -> tuple[Any, Any]:
        """The scores of images, and the part of what can be skipped that is computed, [B] 0 to 1.

        For `measure`; a subclass may find them without detecting anything.
        """
        found = self.detect_fitted(canvas, threshold)
        least, most = self.cost_ends
        return found[self.score], (found["macs"] - least) / (most - least)

    def freeze(
        self, frozen: Callable[..., Any], canvas: Tensor, threshold: Tensor
    ) -> Callable[..., dict[str, Any]]:
        """`detect_fitted` as it is exported, a function of a canvas and a threshold.

        Args:
            frozen: makes a graph with constants of a function, see `serving.network.frozen`.
            canvas, threshold: specs of both.
        """
        from tfdet.ops import conditional

        detect = frozen(self.detect_fitted, canvas, threshold, inline_branches=True)
        return lambda images, at: conditional.at_least_one(lambda rows: detect(rows, at), images)

    def for_inference(self) -> Detector:
        form = super().for_inference()
        form.threshold, form.calibration = self.threshold, self.calibration
        return form

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._settings()}

    def _settings(self) -> dict[str, Any]:
        table = records.to_dict(self.calibration) if self.calibration else None
        return {"threshold": self.threshold, "calibration": table}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Dynamic":
        config = dict(config)
        table, threshold = config.pop("calibration"), config.pop("threshold", None)
        old = config.pop("knob", None)  # how files of the version before call it
        model = cls._from_parts(config)
        model.threshold = old if threshold is None else threshold
        model.calibration = records.from_dict(Calibration, table) if table else None
        return model

    @classmethod
    def _from_parts(cls, config: dict[str, Any]) -> "Dynamic":
        """The detector of a `get_config` without threshold and calibration."""
        return super().from_config(config)


def reported(found: Mapping[str, Tensor]) -> dict[str, Any]:
    """What detections [B, ...] report about each image; of a static detector nothing."""
    return {name: values for name, values in found.items() if name not in _DETECTIONS}


def _warn_of_knob() -> None:
    warnings.warn(
        "`knob` is called `threshold` now, and the old name goes with the next release; `effort` "
        "means the same for all dynamic detectors",
        DeprecationWarning,
        stacklevel=3,
    )
