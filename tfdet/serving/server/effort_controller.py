"""Chooses the effort of each batch so that latencies stay below a limit."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfdet.detectors.calibration import EFFORTS, Calibration

# The part of the limit that is planned with. The rest is for what cannot be foreseen: images
# that come next, and how many of a batch turn out to be hard.
_PLANNED = 0.65
# Whoever would need more of the limit than this with the least effort is not accepted.
_ACCEPTED = 0.85
# How fast the times that are expected follow those that are seen, and how far they may go.
_FOLLOW, _LEAST_FACTOR, _MOST_FACTOR = 0.1, 0.25, 8.0


@dataclasses.dataclass(frozen=True)
class BatchTimes:
    """Milliseconds that a batch takes, by its size and by the share of the work that it does.

    The share is 0 with the least effort and 1 with all; between the four corners, which are
    measured on the machine that serves, times are linear in both.

    Attributes:
        most: images of the largest batch.
        least: milliseconds at a share of 0, of one image and of the largest batch.
        all: at a share of 1.
    """

    most: int
    least: tuple[float, float]
    all: tuple[float, float]

    def of(self, count: np.ndarray | int, share: np.ndarray | float) -> np.ndarray:
        """Milliseconds of batches of `count` images whose mean share is `share`."""
        part = (np.asarray(count) - 1) / max(1, self.most - 1)
        least, full = (one + part * (many - one) for one, many in (self.least, self.all))
        return least + share * (full - least)


def shares_of(calibration: Calibration) -> np.ndarray:
    """The share of the time between least and most that each of `EFFORTS` takes."""
    for costs in (calibration.latency_ms, calibration.macs):
        if costs[-1] > costs[0]:
            shares = (np.array(costs) - costs[0]) / (costs[-1] - costs[0])
            return np.maximum.accumulate(np.clip(shares, 0.0, 1.0))
    return EFFORTS


class EffortController:
    """The effort of the next batch, from who waits and what batches take.

    It is the largest with which all who wait now would have their answers in time, were it kept.
    With time to spare that is 1. Not thread-safe but for `is_hopeless`.

    Args:
        times: of batches, at first; later corrected by what is seen.
        shares: of each of `EFFORTS`, see `shares_of`.
        limit_ms: what the 95th percentile of the latencies is to stay below.
    """

    def __init__(self, times: BatchTimes, shares: np.ndarray, limit_ms: float):
        self._times = times
        self._shares = shares
        self._limit_ms = limit_ms
        self.factor = 1.0

    def choose(self, ages_ms: Sequence[float], floors: Sequence[float]) -> float:
        """The effort of the next batch.

        Args:
            ages_ms: how long each has waited that has no answer, the first one the longest.
            floors: the least effort that each takes.
        """
        if not len(ages_ms):
            return 1.0
        most = self._times.most
        efforts = np.maximum(EFFORTS[:, None], np.asarray(floors)[None, :])  # [101, N]
        shares = np.interp(efforts, EFFORTS, self._shares)
        starts = np.arange(0, len(ages_ms), most)
        counts = np.diff([*starts, len(ages_ms)])
        means = np.add.reduceat(shares, starts, axis=1) / counts  # [101, batches]
        ends = np.cumsum(self.factor * self._times.of(counts, means), axis=1)
        # Of a batch the oldest one decides.
        oldest = np.maximum.reduceat(np.asarray(ages_ms), starts)
        in_time = (ends + oldest <= _PLANNED * self._limit_ms).all(axis=1)
        return float(EFFORTS[in_time.nonzero()[0][-1]]) if in_time.any() else 0.0

    def is_hopeless(self, waiting: int) -> bool:
        """Whether one more behind `waiting` others would be late with the least effort of all."""
        batches = waiting // self._times.most + 1
        last = waiting % self._times.most + 1
        full = (batches - 1) * self._times.of(self._times.most, 0.0)
        return self.factor * float(full + self._times.of(last, 0.0)) > _ACCEPTED * self._limit_ms

    def observe(self, count: int, share: float, ms: float) -> None:
        """Corrects what is expected by a batch that took `ms` with a share that is known now."""
        seen = ms / float(self._times.of(count, share))
        factor = self.factor + _FOLLOW * (seen - self.factor)
        self.factor = float(np.clip(factor, _LEAST_FACTOR, _MOST_FACTOR))
