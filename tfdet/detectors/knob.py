"""What detectors have in common whose cost can be chosen: the table from cost to knob."""

from collections.abc import Iterable
from typing import Any

from tfdet.detectors.calibration import Calibration
from tfdet.errors import UserError


class Dynamic:
    """A part of detectors with a `knob`.

    Attributes:
        calibration: what each position of the knob costs; None before `calibrate`.
    """

    calibration: Calibration | None = None

    @property
    def cost_ends(self) -> tuple[int, int]:
        """Multiply-adds of an image for which all is skipped that can be, and for which nothing."""
        raise NotImplementedError

    def calibrate(self, batches: Iterable[Any]) -> Calibration:
        """Measures what each position of the knob costs, and keeps it as `calibration`.

        Args:
            batches: images of the kind that will be detected in, or (images, targets).
        """
        from tfdet.evaluation import calibration

        self.calibration = calibration.calibrate(self, batches)
        return self.calibration

    def threshold_for(self, **wish: float) -> float:
        """The knob's position for a share, a cost or a latency: `Calibration.threshold_for`."""
        if self.calibration is None:
            raise UserError("the model has not been calibrated; call `calibrate` first")
        return self.calibration.threshold_for(**wish)
