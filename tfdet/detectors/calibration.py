"""What a dynamic detector costs at each effort, and the threshold that it needs for it."""

import dataclasses
import warnings

import numpy as np

from tfdet.errors import UserError

# Efforts that a table has rows for: every percent.
EFFORTS = np.linspace(0.0, 1.0, 101)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A table with a row for each of `EFFORTS`: its threshold, and the mean cost of an image.

    The share is the part of what can be skipped that is computed: the part of the images that a
    cascade sends to its second detector, or the part of a CADDet's grid that is open, in
    multiply-adds.

    The rule of cascades is DynamicDet's: the threshold that sends a share of the images to the
    second detector is that percentile of the scores on a data set, and holds for images of the
    same kind.

    Attributes:
        images: how many images the table is made from.
        thresholds: from the least effort to the largest: of a cascade from 0 (none is hard) to 1
            (all are), of a CADDet from 1 (no gate is open) to 1e-4.
        shares: the share at each, rising.
        macs: mean multiply-adds per image at each.
        latency_ms: mean milliseconds per image at each, one image at a time, interpolated between
            the times with a share of 0 and of 1.
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
        latency_ms: tuple[float, float] = (0.0, 0.0),
    ) -> "Calibration":
        """The table from the scores [N] of a data set, and the costs of the early and late path."""
        if not len(easiness):
            raise UserError("calibration needs at least one image")
        thresholds = threshold_of_share(easiness, EFFORTS)
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
        latency_ms: tuple[float, float] = (0.0, 0.0),
    ) -> "Calibration":
        """The table from shares that were measured at some thresholds.

        Args:
            images: how many were measured.
            thresholds: [T], from the one of effort 0, where the share is 0, to the one of effort 1.
            shares: [T] mean shares there, which rise but for noise.
            macs, latency_ms: the costs of a share of 0 and of 1.
        """
        if not images:
            raise UserError("calibration needs at least one image")
        most = float(np.max(shares))
        if not most > 0:
            raise UserError("calibration found nothing open at any threshold; train the routers")
        at = EFFORTS * most
        found = np.interp(at, np.maximum.accumulate(shares), thresholds)
        found[0] = thresholds[0]
        return cls(
            images=images,
            thresholds=tuple(found.tolist()),
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
        effort: float | None = None,
        target_madds: float | None = None,
        target_latency_ms: float | None = None,
        share: float | None = None,
    ) -> float:
        """The threshold for one of these; give exactly one.

        Args:
            effort: 0 to 1.
            target_madds, target_latency_ms: see `effort_for`.
            share: the old name of `effort`.
        """
        if share is not None:
            warnings.warn(
                "`share` is called `effort` now, and the old name goes with the next release",
                DeprecationWarning,
                stacklevel=2,
            )
        targets = {"target_madds": target_madds, "target_latency_ms": target_latency_ms}
        given = _only_one({"effort": share if effort is None else effort, **targets})
        wanted = given.get("effort")
        if wanted is None:
            wanted = self.effort_for(**given)
        elif not 0 <= wanted <= 1:
            raise UserError(f"effort must be between 0 (the least) and 1 (all), got {wanted}")
        return float(np.interp(wanted, EFFORTS, self.thresholds))

    def effort_for(
        self, *, target_madds: float | None = None, target_latency_ms: float | None = None
    ) -> float:
        """The effort that meets a target: (target - least) / (most - least), clipped to 0 to 1.

        Args:
            target_madds: mean multiply-adds per image.
            target_latency_ms: mean milliseconds per image.
        """
        given = _only_one({"target_madds": target_madds, "target_latency_ms": target_latency_ms})
        ((name, value),) = given.items()
        least, most = self.target_range(name)
        if not most > least:
            raise UserError(
                f"{name} cannot be met: all of the work was measured no more expensive than the "
                f"least ({most:g} and {least:g}); calibrate again"
            )
        if np.isnan(value):
            raise UserError(f"{name} must be a number, got {value}")
        return float(np.clip((value - least) / (most - least), 0.0, 1.0))

    def target_range(self, name: str) -> tuple[float, float]:
        """The least and the most that can be reached of "target_madds" or "target_latency_ms"."""
        costs = self.macs if name == "target_madds" else self.latency_ms
        return costs[0], costs[-1]

    def effort_at(self, threshold: float) -> float:
        """The effort that a threshold comes to."""
        # Thresholds of a grid fall; `interp` wants them to rise.
        sign = 1.0 if self.thresholds[-1] > self.thresholds[0] else -1.0
        return float(np.interp(sign * threshold, sign * np.array(self.thresholds), EFFORTS))


def _only_one(targets: dict[str, float | None]) -> dict[str, float]:
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        raise UserError(f"give exactly one of {', '.join(targets)}; got {len(given)}")
    return given


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
    """The mean of a cost where `share` of the work that can be skipped is done."""
    least, most = ends
    return least + np.asarray(share) * (most - least)
