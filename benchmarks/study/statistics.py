"""Means, spreads and paired differences of the rows of a study."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tfdet.errors import UserError

# Student's t: the quantile 0.975 for 1, 2, ... degrees of freedom.
T_975 = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
)
Values = Mapping[int, float]


@dataclasses.dataclass(frozen=True)
class Difference:
    """A paired difference.

    Attributes:
        mean: over the pairs.
        half_width: of the 95 % interval; None where there is one pair.
        pairs: how many seeds both have.
    """

    mean: float
    half_width: float | None
    pairs: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.half_width is not None and abs(self.mean) > self.half_width


def values(rows: Sequence[Mapping[str, Any]], arm: str, name: str) -> dict[int, float]:
    """By seed one of the values of an arm; {} where there is none.

    "a - b" is the difference of two values of the same run.
    """
    first, *others = name.split(" - ")
    return {
        row["seed"]: row["values"][first] - sum(row["values"][other] for other in others)
        for row in rows
        if row["arm"] == arm and {first, *others} <= row["values"].keys()
    }


def mean_and_spread(one: Values) -> tuple[float, float | None]:
    """The mean, and the standard deviation of the sample; None for one value."""
    numbers = list(one.values())
    return statistics.fmean(numbers), statistics.stdev(numbers) if numbers[1:] else None


def difference(first: Values, second: Values) -> Difference | None:
    """First minus second, over the seeds that both have; None where there is no such seed."""
    return interval([first[seed] - second[seed] for seed in first if seed in second])


def interval(gains: Sequence[float]) -> Difference | None:
    """The mean of differences with its interval; None where there are none."""
    if not gains:
        return None
    mean, count = statistics.fmean(gains), len(gains)
    if count == 1:
        return Difference(mean, None, 1)
    if count - 1 > len(T_975):
        raise UserError(f"there are {count} pairs; the table of t ends at {len(T_975) + 1}")
    error = statistics.stdev(gains) / math.sqrt(count)
    return Difference(mean, T_975[count - 2] * error, count)
