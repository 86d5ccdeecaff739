"""Tests of the report's figures."""

import json

import pytest

from tests.evaluation import planted
from tfdet.evaluation import analysis, findings, report

A, B = (10, 10, 60, 60), (100, 20, 160, 80)


def _figures(evaluator):
    boxes, masks = analysis.analyse(findings.of(evaluator)), None
    if evaluator.masks is not None:
        masks = analysis.analyse(findings.of(evaluator, of_masks=True), of_masks=True)
    return report.figures(boxes, evaluator.result(), masks)


def test_figures_agree_with_each_other_and_are_json(lively):
    facts = json.loads(json.dumps(_figures(lively), allow_nan=False))
    metrics, errors = facts["metrics"], facts["errors"]
    assert "AP/cat" not in metrics and metrics["AP"] > 0
    assert facts["images"] == 60
    matrix, names = facts["confusion"]["matrix"], facts["confusion"]["classes"]
    assert names == ["cat", "dog", "emu", "background"]
    assert sum(map(sum, matrix[:-1])) == facts["objects"]
    right = sum(matrix[i][i] for i in range(3))
    assert right / facts["objects"] == pytest.approx(facts["best"]["recall"])
    assert facts["by_size"][0]["AP"] == pytest.approx(metrics["APs"])
    assert facts["by_difficulty"] == []
    worst = facts["worst_images"]
    assert [row["f1"] for row in worst] == sorted(row["f1"] for row in worst)
    wrong = sum(row["wrong"] for row in worst)
    assert wrong == sum(n for kind, n in errors["at_threshold"].items() if kind != "missed")
    for kind, rows in facts["examples"].items():
        scores = [row["score"] for row in rows]
        assert scores == sorted(scores, reverse=True)
        assert bool(rows) == (errors["all"][kind] > 0)


def test_masks_have_figures_of_their_own():
    """The box is right, but the object is a quarter of it: a bad place for the mask."""

    def corner(box):
        left, top, right, bottom = box
        return [[left, top, (left + right) / 2, bottom, left, bottom]]

    evaluator = planted.evaluated([[(0, A)]], [[(0, 0.9, A)]], segmentations=corner, masks=True)
    facts = _figures(evaluator)
    assert facts["errors"]["all"]["location"] == 0
    assert facts["masks"]["errors"]["all"]["location"] == 1
    assert facts["masks"]["classes"][0]["AP"] == facts["metrics"]["mask/AP"] == 0
    assert facts["classes"][0]["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("objects", "rows"),
    [
        ([[(0, A)], []], [[], []]),
        ([[], []], [[(0, 0.5, A)], []]),
        ([[]], [[]]),
        ([[(0, A, True)]], [[(0, 0.9, A)]]),
    ],
)
def test_figures_of_next_to_nothing(objects, rows):
    facts = _figures(planted.evaluated(objects, rows, class_names=("only",)))
    assert json.dumps(facts, allow_nan=False)
    assert facts["best"] is None
    assert facts["images"] == len(objects)
