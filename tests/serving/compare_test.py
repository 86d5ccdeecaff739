"""Tests of the comparison: it accepts rounding and nothing else."""

import numpy as np
import pytest

from tfdet.serving import compare


def _detections(count=10, places=10, seed=0):
    random = np.random.default_rng(seed)
    found = {
        "boxes": random.uniform(0, 100, (1, places, 4)).astype(np.float32),
        "scores": -np.sort(-random.uniform(0.1, 1, (1, places))).astype(np.float32),
        "labels": random.integers(0, 3, (1, places)).astype(np.int32),
        "count": np.array([count], np.int32),
    }
    found["boxes"][:, count:], found["scores"][:, count:] = 0, 0
    found["labels"][:, count:] = -1
    return found


def _copy(found):
    return {name: values.copy() for name, values in found.items()}


def test_equal_detections_are_equal():
    found = _detections()
    assert compare.compare(found, _copy(found), "a") == compare.Difference(detections=10)


def test_differences_within_tolerance_are_reported():
    found, other = _detections(), _detections()
    other["boxes"][0, 3, 1] += 0.25
    other["scores"][0, 4] += 5e-4
    difference = compare.compare(found, other, "a")
    assert difference.mismatches == ()
    assert difference.box == pytest.approx(0.25, abs=1e-4)
    assert difference.score == pytest.approx(5e-4, abs=1e-6)


def test_order_of_almost_equal_scores_is_free():
    found = _detections()
    found["scores"][0, 4] = found["scores"][0, 5] + 1e-7
    other = _copy(found)
    for values in other.values():
        if values.ndim > 1:
            values[0, [4, 5]] = values[0, [5, 4]]
    assert compare.compare(found, other, "a").mismatches == ()


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("boxes", (0, 3, 2), 130.0),
        ("scores", (0, 3), 0.97),
        ("labels", (0, 3), 7),
        ("boxes", (0, 3, 0), np.nan),
        ("scores", (0, 3), np.nan),
    ],
)
def test_one_wrong_value_is_a_mismatch(name, place, value):
    found, other = _detections(), _detections()
    other[name][place] = value
    sentences = compare.compare(found, other, "serving").mismatches
    assert len(sentences) == 1
    assert sentences[0].startswith("serving, image 0: 1 of 10 detections have no partner")


def test_two_equal_detections_need_two_partners():
    found = _detections()
    for name in ("boxes", "scores", "labels"):
        found[name][0, 1] = found[name][0, 0]
    other = _copy(found)
    other["boxes"][0, 1] += 50
    assert compare.compare(found, other, "a").mismatches


def test_count_shape_and_padding_must_be_equal():
    found, other = _detections(count=6), _detections(count=5)
    assert "6 detections expected, got 5" in compare.compare(found, other, "a").mismatches[0]
    short = _detections(count=6, places=8)
    assert "should be float32 [1, 10, 4]" in compare.compare(found, short, "a").mismatches[0]
    wide = {**found, "labels": found["labels"].astype(np.int64)}
    assert "should be int32" in compare.compare(found, wide, "a").mismatches[0]
    dirty = _copy(found)
    dirty["boxes"][0, 8] = 1
    assert "rows behind the count" in compare.compare(found, dirty, "a").mismatches[0]


def test_only_ties_at_the_end_of_a_full_list_are_left_open():
    found, other = _detections(), _detections()
    other["boxes"][0, 9] += 50
    difference = compare.compare(found, other, "full")
    assert (difference.tied, difference.mismatches) == (1, ())
    other["boxes"][0, 8] += 50
    assert compare.compare(found, other, "full").mismatches
    found, other = _detections(count=9), _detections(count=9)
    other["boxes"][0, 8] += 50
    assert compare.compare(found, other, "not full").mismatches


def test_better_scores_of_all_others_make_no_ties():
    found, other = _detections(), _detections(seed=1)
    other["scores"][:] = 1.0
    assert compare.compare(found, other, "wrong").mismatches


def test_empty_detections_can_be_compared():
    found = _detections(count=0)
    assert compare.compare(found, _copy(found), "a") == compare.Difference()


def test_coarser_detections_are_near_or_lost():
    found, other = _detections(), _detections()
    found["boxes"][..., 2:] = found["boxes"][..., :2] + 20  # of a size
    other["boxes"] = found["boxes"] + 2.0
    other["scores"] -= np.float32(0.05)
    certain = int((found["scores"] >= compare.CERTAIN).sum())
    near = compare.closeness(found, other, "a")
    assert (near.detections, near.lost, near.mismatches) == (certain, 0, ())
    assert near.box == pytest.approx(2.0, abs=1e-3)
    assert near.score == pytest.approx(0.05, abs=1e-6)
    other["labels"][0, 0] = (other["labels"][0, 0] + 1) % 3
    other["boxes"][0, 1] += 30
    assert compare.closeness(found, other, "a").lost == 2


def test_one_detection_is_the_partner_of_one():
    found = _detections(count=2, places=2)
    found["boxes"][0], found["scores"][0], found["labels"][0] = [0, 0, 10, 10], [0.9, 0.8], [1, 1]
    other = _copy(found)
    other["count"][:] = 1
    assert compare.closeness(found, other, "a").lost == 1
    other["count"][:] = 0
    assert compare.closeness(found, other, "a").lost == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_never_near(value):
    found, other = _detections(), _detections()
    other["scores"][0, 2] = value
    assert "not finite" in compare.closeness(found, other, "a").mismatches[0]


def _rivals(gap):
    """Two overlapping detections of almost equal score, of which either may weaken the other."""
    found = _detections(count=2, places=3)
    found["boxes"][0, :2] = [[0, 0, 10, 10], [0, 0, 10, 12]]
    found["scores"][0, :2], found["labels"][0, :2] = [0.5, 0.1], [1, 1]
    other = _copy(found)
    other["boxes"][0, :2] = found["boxes"][0, 1::-1]
    other["scores"][0, :2] += np.float32(gap)
    return found, other


def test_rivals_of_equal_score_tie():
    difference = compare.compare(*_rivals(1e-7), "a")
    assert (difference.mismatches, difference.tied) == ((), 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda other: other["scores"].__iadd__(np.float32(5e-4)),
        lambda other: other["boxes"].__iadd__(np.float32(50)),
        lambda other: other["labels"].__iadd__(1),
    ],
)
def test_others_are_no_rivals(change):
    found, other = _rivals(0)
    rows = {name: values[:, :2] for name, values in other.items() if name != "count"}
    change(rows)
    assert compare.compare(found, other, "a").mismatches
