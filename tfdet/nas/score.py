"""The score of a candidate: how it trades accuracy against cost, relative to the base detector.

The paper's formula is not known; `ScoreConfig.form` chooses a reading. The base scores 1 in each.
"""

import dataclasses
from typing import Literal, NamedTuple

from tfdet.errors import UserError

Form = Literal["sum", "product", "ratio", "mixed"]


class Measured(NamedTuple):
    """What a score is made of.

    Attributes:
        ap: average precision, 0-1.
        operations: of one image at the size it is looked at.
        parameters: of the detector.
    """

    ap: float
    operations: int
    parameters: int


@dataclasses.dataclass(frozen=True)
class ScoreConfig:
    """How the score is made, with P = AP, C = operations, N = parameters and 0 for the base.

    Attributes:
        form: "sum": beta P/P0 + (1 - beta) (C0/C)^alpha, the only one under which the published
            input sizes are the best ones; "product": (P/P0)^beta (C0/C)^alpha; "ratio":
            (P/P0) (C0/C)^alpha; "mixed": the same with C^beta N^(1 - beta) for C.
        alpha: how much cost counts. Published: 0.4, and 0.1 for ResNeXt-101.
        beta: published: 0.8.
        operations: "mmdet_flops" (as published) or "macs", see `profiling.Profile`.
    """

    form: Form = "sum"
    alpha: float = 0.4
    beta: float = 0.8
    operations: Literal["mmdet_flops", "macs"] = "mmdet_flops"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < float("inf"):
            raise UserError(f"score.alpha must be at least 0, got {self.alpha}")
        if not 0 <= self.beta <= 1:
            raise UserError(f"score.beta must be in [0, 1], got {self.beta}")


def score(measured: Measured, base: Measured, config: ScoreConfig) -> float:
    """The score of a detector; 1 for the base itself, whose AP must be above 0."""
    alpha, beta = config.alpha, config.beta
    accuracy = measured.ap / base.ap
    saving = base.operations / measured.operations
    if config.form == "sum":
        return beta * accuracy + (1 - beta) * saving**alpha
    if config.form == "product":
        return max(accuracy, 0.0) ** beta * saving**alpha
    if config.form == "mixed":
        saving = saving**beta * (base.parameters / measured.parameters) ** (1 - beta)
    return accuracy * saving**alpha
