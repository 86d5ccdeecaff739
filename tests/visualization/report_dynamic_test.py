"""Tests of the sections of dynamic detectors."""

import xml.etree.ElementTree as xml

import numpy as np
import pytest

from tests.evaluation import planted
from tfdet.evaluation import analysis, findings, report
from tfdet.visualization import report_dynamic
from tfdet.visualization.markup import element
from tfdet.visualization.page import Picture
from tfdet.visualization.report_pictures import Gallery

A = (10, 10, 60, 60)


@pytest.fixture(scope="module")
def boxes():
    evaluator = planted.evaluated([[(0, A)]] * 5, [[(0, 0.9, A)]] * 5)
    return analysis.analyse(findings.of(evaluator))


def _facts(boxes, **more):
    rows = report.image_rows(boxes, np.arange(5))
    rows = [{**row, "macs": 1e9 * (i + 1)} for i, row in enumerate(rows)]
    return {
        "threshold": 0.25,
        "macs": 3e9,
        "costs": {"edges": [1e9, 3e9, 5e9], "count": [2, 3]},
        "by_cost": [{"group": "easy", "images": 5, "macs": 1e9, "AP": 1, "AP50": 1, "objects": 5}],
        "easiest": rows,
        "hardest": rows[::-1],
        **more,
    }


def _sections(facts, boxes, routes=None):
    made = report_dynamic.sections({"dynamic": facts}, Gallery(boxes), routes)
    return {name: xml.fromstring(element("section", *content)) for name, _, content in made}


def _text(node):
    return " ".join("".join(node.itertext()).split())


def test_a_static_detector_has_none(boxes):
    assert report_dynamic.sections({}, Gallery(boxes), None) == []


def test_costs_and_the_images_at_both_ends(boxes):
    found = _sections(_facts(boxes), boxes)
    assert list(found) == ["effort", "ends"]
    assert "costs 3 G multiply-adds on average, at a threshold of 0.25." in _text(found["effort"])
    assert len(list(found["effort"].iter("svg"))) == 1
    captions = [x.text for x in found["ends"].iter("figcaption")]
    assert captions[0] == "0000.png: 1 G multiply-adds"
    assert captions[4] == "0004.png: 5 G multiply-adds"
    assert len(captions) == 8


def test_scores_of_a_cascade(boxes):
    scores = {"name": "easiness", "edges": [0, 0.5, 1], "count": [4, 1]}
    found = _sections(_facts(boxes, scores=scores, share=0.8), boxes)
    assert "80.0 % of the images are hard" in _text(found["effort"])
    charts = list(found["effort"].iter("svg"))
    assert [chart.get("aria-label") for chart in charts][1] == "easiness of the images"
    assert [x for x in charts[1].iter("line") if x.get("class") == "marker"]


@pytest.mark.parametrize("is_cascade", [True, False])
def test_the_trade_off_has_a_row_and_a_mark_for_each_effort(boxes, is_cascade):
    curve = [
        {
            "share": x,
            "threshold": x,
            "macs": 1e9 * (1 + x),
            "latency_ms": 5 + x,
            "AP": 0.3 + 0.1 * x,
        }
        for x in np.linspace(0, 1, 11).tolist()
    ]
    if is_cascade:
        curve = [{**row, "AP_random": 0.3, "AP_oracle": 0.5} for row in curve]
    trade = _sections(_facts(boxes, tradeoff={"curve": curve}), boxes)["tradeoff"]
    assert len(list(trade.iter("tr"))) == 12
    assert len(list(trade.iter("circle"))) == 22
    legend = {key.tail for key in trade.iter("i")}
    assert legend == ({"interpolated", "router", "random", "oracle"} if is_cascade else set())


def test_routes_are_a_picture(boxes):
    picture = Picture("data:x", 30, 20, "all routes")
    found = _sections(_facts(boxes), boxes, picture)
    assert [x.get("src") for x in found["routes"].iter("img")] == ["data:x"]
