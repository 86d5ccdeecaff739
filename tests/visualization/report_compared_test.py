"""Tests of the report's comparison of two detectors."""

import pytest

from tests.evaluation import planted
from tfdet.evaluation import analysis, comparison, findings, report
from tfdet.visualization import report_page
from tfdet.visualization.report_pictures import Gallery

A = (10, 10, 60, 60)
NASTY = '<script>alert("x")</script>'


def _page(this, other):
    boxes, others = (analysis.analyse(findings.of(one)) for one in (this, other))
    figures = {
        "written_by": "a test",
        "model": "toy",
        "data": "planted",
        "left_out": 0,
        **report.figures(boxes, this.result()),
        "compared": {
            "with": NASTY,
            **comparison.compared(boxes, others, this.result(), other.result()),
        },
    }
    page = report_page.report_page(figures, Gallery(boxes), Gallery(others))
    return page.split('id="compared"')[1].split("</section>")[0]


@pytest.fixture(scope="module")
def section():
    truth = [[(0, A)], [(0, A)], [(0, A)]]
    this = planted.evaluated(truth, [[(0, 0.9, A)], [], [(0, 0.8, A)]])
    other = planted.evaluated(truth, [[(0, 0.9, A)], [(0, 0.7, A)], []])
    return _page(this, other)


def test_images_where_either_detector_is_better_are_shown(section):
    worse, better = section.split("Fewer mistakes than the other")
    assert "More mistakes than the other" in worse
    assert "0001.png: 1 mistakes, the other 0" in worse
    assert "0002.png: 0 mistakes, the other 1" in better
    # The truth, this detector and the other one, of each of the two images.
    assert worse.count("data:image/jpeg") == better.count("data:image/jpeg") == 3
    assert "0000.png" not in section


def test_who_finds_which_objects_is_in_a_table(section):
    row = section.split(">all</th>")[1].split("</tr>")[0]
    assert [cell.split("<")[0] for cell in row.split("<td>")[1:]] == ["", "", "", *"1110"]


def test_the_name_of_the_other_is_text(section):
    assert NASTY not in section and "&lt;script&gt;" in section


def test_equal_detectors_have_no_images_to_show():
    lively = planted.lively()
    section = _page(lively, lively)
    assert "mistakes than the other" not in section and "data:image" not in section
    assert "+0.0" in section
