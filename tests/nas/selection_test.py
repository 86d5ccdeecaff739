import numpy as np

from tfdet.nas import selection
from tfdet.nas.candidates import Candidate


def candidate(number, ap=0.5, macs=100, score=1.0, failure=""):
    return Candidate(
        number=number,
        generation=1,
        lineage=(number,),
        action=None,
        encoding="",
        image_size=(64, 64),
        subnet=None,
        teacher="",
        parameters=10,
        macs=macs,
        mmdet_flops=2 * macs,
        metrics={"AP": ap},
        losses={},
        score=score,
        steps=1,
        seconds=1.0,
        failure=failure,
    )


def test_the_best_are_first_and_the_earlier_of_equal_ones():
    rows = [candidate(0, score=1), candidate(1, score=3), candidate(2, score=3)]
    rows += [candidate(3, score=9, failure="out of memory")]
    assert [c.number for c in selection.best_candidates(rows, 2)] == [1, 2]


def test_parents_are_drawn_in_proportion_to_the_weight_of_their_rank():
    pool = [candidate(0), candidate(1)]
    random = np.random.default_rng(0)
    drawn = [selection.draw_parent(pool, (3.0, 1.0, 7.0), random).number for _ in range(2000)]
    assert abs(np.mean(drawn) - 0.25) < 0.03


def test_the_front_has_what_no_cheaper_one_beats():
    rows = [
        candidate(0, ap=0.5, macs=100),
        candidate(1, ap=0.4, macs=120),  # costs more, finds less
        candidate(2, ap=0.3, macs=50),
        candidate(3, ap=0.5, macs=100),  # equal, and later
        candidate(4, ap=0.9, macs=10, failure="killed"),
        candidate(5, ap=0.6, macs=200),
    ]
    for operations in ("macs", "mmdet_flops"):
        front = selection.pareto_front(rows, operations)
        assert [c.number for c in front] == [2, 0, 5]
