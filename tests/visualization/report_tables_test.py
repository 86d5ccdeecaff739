"""Tests of the report's tables."""

import re

import numpy as np
import pytest

from tfdet.evaluation import coco
from tfdet.visualization import draw
from tfdet.visualization import report_tables as tables


def _rows(markup):
    """The texts of the cells of each row."""
    rows = re.findall(r"<tr>(.*?)</tr>", markup, re.DOTALL)
    cells = (re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL) for row in rows)
    return [[re.sub("<.*?>", "", cell) for cell in row] for row in cells]


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "12.3"), (1, "100.0"), (0, "0.0"), (-1, "–"), (None, "–")]
)
def test_percents(value, text):
    assert tables.percent(value) == text


@pytest.mark.parametrize("with_masks", [False, True])
def test_cocos_numbers_of_boxes_and_masks(with_masks):
    metrics = {name: 0.01 * i for i, name in enumerate(coco.METRICS)}
    if with_masks:
        metrics |= {coco.MASK + name: 0.5 for name in coco.METRICS}
    head, first, *others = _rows(tables.coco_table(metrics))
    assert head[1:-1] == (["boxes", "masks"] if with_masks else ["boxes"])
    assert first[:2] == ["AP", "0.0"] and others[-1][:2] == ["ARl", "11.0"]
    assert first[2] == ("50.0" if with_masks else coco.METRICS["AP"])


def _class(name, ap, objects=1, best=None):
    return {"class": name, "objects": objects, "AP": ap, "AP50": ap, "AP75": ap, "best": best}


def test_classes_keep_their_colours_where_the_worst_is_first():
    rows = [_class("a", 0.9), _class("b", 0.1), _class("c", -1.0, objects=0)]
    ordered = tables.worst_first(rows)
    assert [label for label, _ in ordered] == [1, 0, 2]
    markup = tables.class_table(ordered)
    found = re.findall(r"background:#(\w{6})", markup)
    expected = ["{:02x}{:02x}{:02x}".format(*draw.class_color(label)) for label in (1, 0, 2)]
    assert found == expected
    assert [row[0] for row in _rows(markup)[1:]] == ["b", "a", "c"]
    assert _rows(markup)[3][2:] == ["–", "", "–", "–", "–", "–", "–", "–"]


def test_gains_are_shown_with_how_many_errors_there_are():
    kinds = list(tables.KINDS)
    errors = {
        "gains": dict(zip(kinds, 0.01 * np.arange(len(kinds)), strict=True)),
        "at_threshold": dict.fromkeys(kinds[:6], 3),
        "all": dict.fromkeys(kinds[:6], 1234),
    }
    rows = _rows(tables.error_table(errors))
    assert rows[2][:5] == ["location", "+1.0", "", "3", "1,234"]
    assert rows[7][:5] == ["false positive", "+6.0", "", "", ""]
    assert "width:100.0%" in tables.error_table(errors).split("missed")[1]


def _confusion(count, matrix):
    return {"classes": [*(f"c{i}" for i in range(count)), "background"], "matrix": matrix}


def test_a_small_matrix_has_counts_and_a_large_one_percents():
    matrix = np.zeros((3, 3), int)
    matrix[0], matrix[2, 1] = (30, 10, 0), 5
    small = tables.confusion_table(_confusion(2, matrix.tolist()))
    assert 'class="r8" title="c0 → c0: 30 (75.0 % of the row)">30<' in small
    assert 'class="w2" title="c0 → c1: 10 (25.0 % of the row)">10<' in small
    assert 'class="w10" title="background → c1: 5 (100.0 % of the row)">5<' in small
    assert small.count("<td></td>") == 6
    large = np.zeros((81, 81), int)
    large[3, 4], large[3, 3] = 1, 3
    markup = tables.confusion_table(_confusion(80, large.tolist()))
    assert 'title="c3 → c4: 1 (25.0 % of the row)">25<' in markup
    assert "dense" in markup


def test_groups_of_objects_have_no_images():
    row = {"group": "small", "AP": 0.5, "AP50": 0.75, "objects": 1200}
    assert _rows(tables.group_table("size", [row])) == [
        ["size", "AP", "", "AP50", "objects"],
        ["small", "50.0", "", "75.0", "1,200"],
    ]
    (_, cells) = _rows(tables.group_table("fill", [{**row, "images": 7}]))
    assert cells[-1] == "7"


def test_classes_that_are_never_confused_have_no_table():
    assert tables.confused_table([]) is None
    row = {"true": "a", "detected": "b", "count": 3}
    assert _rows(tables.confused_table([row]))[1] == ["a", "b", "3"]
