"""What a dynamic detector costs at each position of its knob."""

import dataclasses

import numpy as np

from tfdet.errors import UserError

# Shares of hard images that a table has rows for: every percent.
SHARES = np.linspace(0.0, 1.0, 101)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A table from the knob to the share of what can be skipped, and to the mean cost of an image.

    That share is the part of the images that a cascade sends to its second detector, or the part of
    a CADDet's grid that is open, in multiply-adds.

    The rule is DynamicDet's: the threshold that sends a share of the images to the second detector
    is that percentile of the scores on a data set, and holds for images of the same kind.

    Attributes:
        images: how many images the table is made from.
        thresholds: positions of the knob from the cheapest to the dearest: of a cascade from 0
            (none is hard) to 1 (all are), of a CADDet from 1 (no gate is open) to 1e-4.
        shares: the share at each, rising.
        macs: mean multiply-adds per image at each.
        latency_ms: mean milliseconds per image at each, one image at a time, mixed from the times
            with a share of 0 and of 1.
    """

    images: int
    thresholds: tuple[float, ...]
    shares: tuple[float, ...]
    macs: tuple[float, ...]
    latency_ms: tuple[float, ...]

    @classmethod
    def from_scores(
        cls,
        easiness: np.ndarray,
        macs: tuple[float, float],
        latency_ms: tuple[float, float],
    ) -> "Calibration":
        """The table from the scores [N] of a data set, and the costs of the early and late path."""
        if not len(easiness):
            raise UserError("calibration needs at least one image")
        thresholds = threshold_of_share(easiness, SHARES)
        shares = np.array([share_at(easiness, threshold) for threshold in thresholds])
        return cls(
            images=len(easiness),
            thresholds=tuple(thresholds.tolist()),
            shares=tuple(shares.tolist()),
            macs=tuple(mixed(macs, shares).tolist()),
            latency_ms=tuple(mixed(latency_ms, shares).tolist()),
        )

    @classmethod
    def from_shares(
        cls,
        images: int,
        thresholds: np.ndarray,
        shares: np.ndarray,
        macs: tuple[float, float],
        latency_ms: tuple[float, float],
    ) -> "Calibration":
        """The table from shares that were measured at some thresholds.

        Args:
            images: how many were measured.
            thresholds: [T] positions of the knob, falling from one where the share is 0.
            shares: [T] mean shares there, which rise but for noise.
            macs, latency_ms: the costs of a share of 0 and of 1.
        """
        if not images:
            raise UserError("calibration needs at least one image")
        most = float(np.max(shares))
        if not most > 0:
            raise UserError("calibration found nothing open at any threshold; train the routers")
        at = SHARES * most
        knob = np.interp(at, np.maximum.accumulate(shares), thresholds)
        knob[0] = thresholds[0]
        return cls(
            images=images,
            thresholds=tuple(knob.tolist()),
            shares=tuple(at.tolist()),
            macs=tuple(mixed(macs, at).tolist()),
            latency_ms=tuple(mixed(latency_ms, at).tolist()),
        )

    def with_latency(self, latency_ms: tuple[float, float]) -> "Calibration":
        """The same table with other times with a share of 0 and of 1."""
        mean = tuple(mixed(latency_ms, np.array(self.shares)).tolist())
        return dataclasses.replace(self, latency_ms=mean)

    def threshold_for(
        self,
        *,
        share: float | None = None,
        target_madds: float | None = None,
        target_latency_ms: float | None = None,
    ) -> float:
        """The knob's position for one wish; give exactly one.

        Args:
            share: position between the cheapest (0) and the dearest (1): the part of the images
                that goes to the second detector, or the part of what a CADDet opens at the most.
            target_madds: mean multiply-adds per image. More than the dearest is all of it.
            target_latency_ms: mean milliseconds per image; likewise.
        """
        wishes = {
            "share": (share, (0.0, 1.0)),
            "target_madds": (target_madds, (self.macs[0], self.macs[-1])),
            "target_latency_ms": (target_latency_ms, (self.latency_ms[0], self.latency_ms[-1])),
        }
        given = {name: wish for name, wish in wishes.items() if wish[0] is not None}
        if len(given) != 1:
            raise UserError(f"give exactly one of {', '.join(wishes)}; got {len(given)}")
        ((name, (value, ends)),) = given.items()
        return float(np.interp(_position(name, value, ends), SHARES, self.thresholds))


def threshold_of_share(easiness: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """The thresholds that make these shares of the images hard: percentiles of their scores."""
    share = np.asarray(share)
    # The ends exactly, whatever other images score.
    inner = np.percentile(np.asarray(easiness, np.float64), 100 * share)
    return np.where(share <= 0, 0.0, np.where(share >= 1, 1.0, inner))


def share_at(easiness: np.ndarray, threshold: float) -> float:
    """The share of hard images at a threshold, by the rule of `routing.is_hard`."""
    if threshold <= 0 or threshold >= 1:
        return float(threshold >= 1)
    return float(np.mean(np.asarray(easiness) < np.float32(threshold)))


def mixed(ends: tuple[float, float], share: np.ndarray | float) -> np.ndarray:
    """The mean of a cost where `share` of the images take the late path."""
    early, late = ends
    return early + np.asarray(share) * (late - early)


def _position(name: str, value: float, ends: tuple[float, float]) -> float:
    early, late = ends
    if not late > early:
        raise UserError(
            f"{name} cannot be met: the dearest was measured no dearer than the cheapest "
            f"({late:g} and {early:g}); calibrate again"
        )
    if not value >= early:
        raise UserError(
            f"{name}={value:g} is below the least there is, {early:g}, at which all that can be "
            "skipped is skipped"
        )
    return min((value - early) / (late - early), 1.0)
