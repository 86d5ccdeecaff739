"""Tests of the kinds of errors, with planted mistakes of each kind."""

import dataclasses

import numpy as np
import pytest

from tests.evaluation import planted
from tfdet.evaluation import analysis, error_kinds, findings

A, B, C = (10, 10, 60, 60), (100, 20, 160, 80), (200, 100, 280, 180)
AWAY = (200, 10, 240, 50)
HALF_A = (10, 10, 60, 30)  # IoU 0.4 with A


def _kinds(one):
    return [error_kinds.KINDS[k] if k >= 0 else "" for k in one.errors.kind]


@pytest.mark.parametrize(
    ("detection", "kind", "missed"),
    [
        ((0, 0.9, A), "", 0),
        ((1, 0.9, A), "class", 0),
        ((0, 0.9, HALF_A), "location", 0),
        ((1, 0.9, HALF_A), "both", 1),
        ((0, 0.9, AWAY), "background", 1),
        ((1, 0.9, AWAY), "background", 1),
    ],
)
def test_a_planted_mistake_is_of_its_kind(analysed, detection, kind, missed):
    one = analysed([[(0, A)]], [[detection]])
    assert _kinds(one) == [kind]
    assert one.errors.is_missed.sum() == missed
    expected = {**dict.fromkeys(error_kinds.KINDS, 0), "missed": missed}
    assert one.errors.counts() == expected | ({kind: 1} if kind else {})


def test_the_less_sure_of_two_on_one_object_is_a_duplicate(analysed):
    one = analysed([[(0, A)]], [[(0, 0.6, A), (0, 0.9, (11, 10, 60, 60))]])
    assert _kinds(one) == ["", "duplicate"]
    assert one.findings.found.scores.tolist() == [0.9, 0.6]


def test_without_any_object_all_is_background(analysed):
    one = analysed([[(0, A)], []], [[], [(0, 0.9, A), (1, 0.8, B)]])
    assert _kinds(one) == ["background"] * 2


def test_the_first_rule_that_holds_counts(analysed):
    """IoU 0.4 with its own class and 1 with another: it was meant for its own class."""
    one = analysed([[(0, A), (1, HALF_A)]], [[(0, 0.9, HALF_A)]])
    assert _kinds(one) == ["location"]


def test_a_detection_in_a_crowd_is_no_error(analysed):
    one = analysed([[(0, A, True)], [(0, B)]], [[(0, 0.9, HALF_A)], []])
    assert _kinds(one) == [""]
    assert one.errors.is_missed.tolist() == [False, True]


def test_an_object_that_mending_would_find_is_not_missed(analysed):
    one = analysed([[(0, A), (0, B), (0, C)]], [[(1, 0.9, A), (0, 0.8, (100, 20, 160, 40))]])
    assert _kinds(one) == ["class", "location"]
    assert one.errors.is_missed.tolist() == [False, False, True]


def test_below_a_threshold_detections_are_absent(analysed):
    one = analysed([[(0, A), (0, B)]], [[(0, 0.9, A), (0, 0.3, B), (1, 0.2, A)]])
    sure = error_kinds.errors_of(one.findings, one.pairs, one.matches, above=0.5)
    assert sure.counts() == {**dict.fromkeys(error_kinds.KINDS, 0), "missed": 1}
    assert one.errors.counts()["missed"] == 0


def _gains(one):
    return error_kinds.gains(one.findings, one.matches, one.errors)


def _ap(one):
    return error_kinds._ap(one.findings, one.matches, [0])


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ((1, 0.9, B), "class"),
        ((0, 0.9, (100, 20, 160, 40)), "location"),
        ((1, 0.9, (100, 20, 160, 40)), "both"),
        ((0, 0.9, AWAY), "background"),
    ],
)
def test_mending_the_only_error_gives_what_the_mended_detections_have(analysed, wrong, kind):
    """Two objects, of which the second is found wrongly; with what the mend makes of it, AP is 1 or
    that of one object of two."""
    objects = [[(0, A), (0, B)]]
    before = analysed(objects, [[(0, 0.5, A), wrong]])
    mended = [(0, 0.5, A), (0, 0.9, B)] if kind in ("class", "location") else [(0, 0.5, A)]
    after = analysed(objects, [mended])
    gains = _gains(before)
    assert gains[kind] == pytest.approx(_ap(after) - _ap(before), abs=1e-12)
    others = set(error_kinds.OF_DETECTIONS) - {kind}
    assert all(gains[name] == 0 for name in others)


def test_mending_duplicates_removes_them(analysed):
    objects = [[(0, A), (0, B)]]
    before = analysed(objects, [[(0, 0.9, A), (0, 0.8, A), (0, 0.7, B)]])
    assert _gains(before)["duplicate"] == pytest.approx(1 - _ap(before))
    assert _gains(before)["duplicate"] > 0.1


def test_mending_missed_objects_takes_them_out(analysed):
    before = analysed([[(0, A), (0, B)]], [[(0, 0.9, A)]])
    gains = _gains(before)
    assert gains["missed"] == gains["false negative"] == pytest.approx(1 - _ap(before))
    assert _ap(before) == pytest.approx(51 / 101)


def test_of_several_errors_for_an_object_the_surest_is_mended(analysed):
    """The class error of 0.9 becomes the hit; the one of 0.8 is gone, though its object is free."""
    before = analysed([[(0, A), (0, B)]], [[(1, 0.9, A), (2, 0.8, A), (0, 0.7, B)]])
    assert _ap(before) == pytest.approx(51 / 101)
    assert _gains(before)["class"] == pytest.approx(1 - 51 / 101)


def test_where_all_was_missed_mending_that_gives_all(analysed):
    one = analysed([[(0, A)]], [[]])
    assert _gains(one)["missed"] == 1
    assert all(_gains(one)[name] == 0 for name in error_kinds.OF_DETECTIONS)


def test_without_objects_there_is_nothing_to_gain(analysed):
    one = analysed([[(0, A, True)]], [[(0, 0.5, AWAY)]])
    assert _gains(one) == {}


def test_no_mend_makes_it_worse_and_all_wrong_ones_count_once(lively):
    one = analysis.analyse(findings.of(lively))
    gains, counts = _gains(one), one.errors.counts()
    assert set(gains) == {*error_kinds.KINDS, "false positive", "false negative"}
    assert min(gains.values()) >= 0
    assert min(gains[kind] for kind in error_kinds.OF_DETECTIONS) > 0.001
    wrong = one.matches.is_wrong
    assert sum(counts[kind] for kind in error_kinds.OF_DETECTIONS) == wrong.sum()
    assert (one.errors.kind[~wrong] == error_kinds.NO_ERROR).all()
    assert gains["false positive"] > max(gains[kind] for kind in error_kinds.OF_DETECTIONS)


def test_mending_everything_leaves_nothing_to_mend(lively):
    """Hits alone, of objects that are found alone: AP is 1."""
    one = findings.of(lively)
    first = analysis.analyse(one)
    hits = np.flatnonzero(first.matches.is_hit)
    names = ("image", "boxes", "scores", "labels", "areas")
    found = dataclasses.replace(
        one.found, **{name: getattr(one.found, name)[hits] for name in names}
    )
    again = analysis.analyse(dataclasses.replace(one, found=found))
    absent = first.matches.is_counted & ~first.matches.is_found
    assert again.errors.counts()["missed"] == absent.sum()
    gains = _gains(again)
    assert all(gains[kind] == 0 for kind in error_kinds.OF_DETECTIONS)


# What tidecv 1.0.1, the program of the paper's authors, finds in `planted.lively(crowds=False)`.
TIDECV = {
    "class": (64, 3.3599946484652357),
    "location": (153, 8.2002422995062),
    "both": (33, 1.2057763270483939),
    "duplicate": (177, 3.8596044489378585),
    "background": (144, 5.000325652609096),
    "missed": (48, 7.969468629185911),
}


def test_counts_and_gains_are_those_of_the_authors_program():
    one = analysis.analyse(findings.of(planted.lively(crowds=False)))
    gains, counts = _gains(one), one.errors.counts()
    assert counts == {kind: count for kind, (count, _) in TIDECV.items()}
    for kind, (_, gain) in TIDECV.items():
        assert 100 * gains[kind] == pytest.approx(gain, abs=1e-9), kind
    assert 100 * gains["false positive"] == pytest.approx(41.19916447625177, abs=1e-9)
