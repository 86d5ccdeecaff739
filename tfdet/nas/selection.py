"""Which candidates matter: the pool that parents are drawn from, and the Pareto front."""

from collections.abc import Iterable, Sequence

import numpy as np

from tfdet.nas.candidates import Candidate


def best_candidates(candidates: Iterable[Candidate], count: int) -> list[Candidate]:
    """The `count` best by score, the best first; of equal ones the earlier. Failed ones do not."""
    found = [candidate for candidate in candidates if not candidate.failure]
    return sorted(found, key=lambda candidate: (-candidate.score, candidate.number))[:count]


def draw_parent(
    pool: Sequence[Candidate], rank_weights: Sequence[float], random: np.random.Generator
) -> Candidate:
    """One of the pool, best first; probabilities are in proportion to the weights of ranks."""
    chances = np.asarray(rank_weights[: len(pool)], np.float64)
    return pool[random.choice(len(pool), p=chances / chances.sum())]


def pareto_front(candidates: Iterable[Candidate], operations: str) -> list[Candidate]:
    """Those that no other beats: more AP than each that costs as much or less; cheapest first.

    Args:
        candidates: failed ones are left out.
        operations: what they cost, "macs" or "mmdet_flops".
    """
    found = [candidate for candidate in candidates if not candidate.failure]
    found.sort(key=lambda c: (getattr(c, operations), -c.ap, c.number))
    front: list[Candidate] = []
    for candidate in found:
        if not front or candidate.ap > front[-1].ap:
            front.append(candidate)
    return front
