import numpy as np
import pytest

from tfdet.errors import UserError
from tfdet.evaluation import analysis, comparison, findings

A, B = (10, 10, 60, 60), (100, 20, 160, 80)
TRUTH = [[(0, A), (1, B)], [(0, A)], [(1, B), (0, A, True)], []]


@pytest.fixture
def compared(evaluated):
    """The comparison of two lists of planted detections."""

    def call(this, other, truth=TRUTH):
        both = [evaluated(truth, found) for found in (this, other)]
        analyses = [analysis.analyse(findings.of(one)) for one in both]
        return comparison.compared(*analyses, *(one.result() for one in both))

    return call


def test_objects_are_counted_by_who_finds_them(compared):
    this = [[(0, 0.9, A), (1, 0.9, B)], [], [], []]
    other = [[(0, 0.8, A)], [(0, 0.8, A)], [], []]
    facts = compared(this, other)
    # The crowd does not count.
    assert facts["objects"] == {"both": 1, "only_this": 1, "only_other": 1, "neither": 1}
    assert [row["class"] for row in facts["classes"]] == ["cat", "dog"]
    assert facts["classes"][0]["AP"] < facts["classes"][0]["other_AP"]
    assert facts["classes"][1] | {"both": 0, "only_this": 1, "only_other": 0} == facts["classes"][1]


def test_images_are_ordered_by_the_difference_of_mistakes(compared):
    wrong = [(0, 0.9, (200, 100, 250, 150)), (0, 0.9, (200, 20, 250, 60))]
    this = [[(0, 0.9, A), (1, 0.9, B)], [(0, 0.9, A)], [], wrong]
    other = [[], [(0, 0.9, A)], [(1, 0.9, B)], []]
    facts = compared(this, other)
    assert [row["image"] for row in facts["worse"]] == ["0003.png", "0002.png"]
    assert facts["better"] == [{"image": "0000.png", "id": 0, "mistakes": 0, "other_mistakes": 2}]
    assert facts["images"] == {"worse": 2, "better": 1}


def test_a_detector_equals_itself(compared, lively):
    one = analysis.analyse(findings.of(lively))
    facts = comparison.compared(one, one, lively.result(), lively.result())
    assert facts["worse"] == facts["better"] == []
    assert facts["objects"]["only_this"] == facts["objects"]["only_other"] == 0
    assert facts["objects"]["both"] == comparison.found_objects(one).sum() > 0
    assert facts["metrics"]["AP"] == lively.result()["AP"]
    assert facts["errors"] == one.sure_errors.counts()


def test_each_detector_counts_from_its_own_threshold(compared):
    """Scores of the other are a tenth, and it finds the same."""
    this = [[(0, 0.9, A), (1, 0.8, B)], [(0, 0.7, A)], [], []]
    low = [[(label, score / 10, box) for label, score, box in rows] for rows in this]
    facts = compared(this, low)
    assert facts["objects"] == {"both": 3, "only_this": 0, "only_other": 0, "neither": 1}
    np.testing.assert_allclose(facts["threshold"], 0.07)


def test_images_without_objects_and_without_detections_compare_as_equal(compared):
    facts = compared([[], []], [[], []], [[], []])
    assert facts["classes"] == [] and facts["worse"] == []
    assert set(facts["objects"].values()) == {0}


def test_other_objects_are_refused(evaluated):
    one, other = ([[(0, A)], [(1, B)]], [[(0, A)]])
    analyses = [
        analysis.analyse(findings.of(evaluated(rows, [[]] * len(rows)))) for rows in (one, other)
    ]
    with pytest.raises(UserError, match="different objects"):
        comparison.compared(*analyses, {}, {})
