"""Tests of the plots in SVG."""

import re
import xml.etree.ElementTree as xml

import numpy as np
import pytest

from tfdet.visualization import plots
from tfdet.visualization.plots import Series, Stack


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ((0, 4321), [0, 1000, 2000, 3000, 4000]),
        ((0.031, 0.038), [0.032, 0.034, 0.036, 0.038]),
        ((-1, 1), [-1, -0.5, 0, 0.5, 1]),
        ((0, 1e-9), [0, 2e-10, 4e-10, 6e-10, 8e-10, 1e-9]),
    ],
)
def test_ticks_are_round_and_within(ends, expected):
    assert plots.ticks(*ends) == pytest.approx(expected)


def _points(svg):
    return [
        [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
        for line in svg.iter("polyline")
    ]


def test_lines_are_where_their_values_are():
    series = [
        Series("a", [0, 0.5, 1], [0, None, 1]),
        Series("b", [0, 1], [0.5, 0.5], "s2", is_marked=True),
    ]
    svg = xml.fromstring(plots.lines(series, "x", "y", "two lines", marked_x=0.5))
    (first, last), level = _points(svg)
    assert first[0] < last[0] and first[1] > last[1]
    assert {y for _, y in level} == {(first[1] + last[1]) / 2}
    marks = list(svg.iter("circle"))
    assert [float(mark.get("cx")) for mark in marks] == [x for x, _ in level]
    assert marks[0].find("title").text == "b: 0, 0.5"
    (marker,) = (line for line in svg.iter("line") if line.get("class") == "marker")
    assert float(marker.get("x1")) == pytest.approx((first[0] + last[0]) / 2, abs=0.1)
    assert [key.tail for key in svg.iter("i")] == ["a", "b"]


def test_columns_are_as_high_as_their_counts():
    svg = xml.fromstring(plots.columns([0, 1, 2, 3], [2, 0, 4], "x", "y", "a histogram"))
    heights = [float(bar.get("height")) for bar in svg.iter("rect")]
    assert heights[1] == 0
    assert heights[2] == pytest.approx(2 * heights[0], abs=0.2)


@pytest.mark.parametrize("counts", [[[0, 0]], [[1, 5], [2, 0]], [[10**7, 1]]])
def test_parts_of_columns_are_as_high_as_their_counts(counts):
    stacks = [Stack(f"n{i}", own, "s1") for i, own in enumerate(counts)]
    html = plots.stacked(["a", "b"], stacks, "x", "y", "title")
    heights = [float(x) for x in re.findall(r'<rect [^>]*height="([\d.]+)"', html)]
    assert len(heights) == sum(c > 0 for own in counts for c in own)
    if heights:
        most = max(map(sum, zip(*counts, strict=True)))
        expected = [c / most * 172 for column in zip(*counts, strict=True) for c in column if c]
        np.testing.assert_allclose(heights, np.maximum(expected, 0.5), atol=0.06)


def test_long_labels_leave_room_for_each_other():
    labels = [f"{i}–{i + 999}" for i in range(0, 20000, 1000)]
    html = plots.stacked(labels, [Stack("n", [1] * 20, "s1")], "x", "y", "t")
    places = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="200"', html)]
    assert len(places) > 1 and min(np.diff(places)) > 6 * max(map(len, labels))


def test_parts_of_columns_stand_on_each_other():
    stacks = [Stack("low", [3, 1], "s1"), Stack("none", [0, 0], "s2"), Stack("top", [1, 2], "s3")]
    svg = xml.fromstring(plots.stacked(["a", "b"], stacks, "x", "y", "t"))
    places = {bar.find("title").text: bar for bar in svg.iter("rect")}
    assert list(places) == ["a: low 3", "a: top 1", "b: low 1", "b: top 2"]
    for low, top in (("a: low 3", "a: top 1"), ("b: low 1", "b: top 2")):
        end = float(places[top].get("y")) + float(places[top].get("height"))
        assert end == pytest.approx(float(places[low].get("y")), abs=0.11)
        assert places[low].get("x") == places[top].get("x")
    assert [key.tail for key in svg.iter("i")] == ["low", "none", "top"]


@pytest.mark.parametrize(("labels", "stacks"), [([], []), ([], [Stack("n", [], "s1")])])
def test_no_columns_are_a_plot(labels, stacks):
    svg = xml.fromstring(plots.stacked(labels, stacks, "x", "y", "t"))
    assert [text.text for text in svg.iter("text")] == ["0", "1", "x", "y"]


@pytest.mark.parametrize("values", [[5.0], [], [3.0, 3.0]])
def test_a_plot_of_next_to_nothing_is_a_plot(values):
    ends = (values[0], values[-1]) if values else (0, 0)
    text = plots.lines([Series("a", values, values)], "x", "y", "t", ends, ends)
    assert not re.search("nan|inf", text)
    xml.fromstring(text)
    xml.fromstring(plots.columns([2.0, 2.0], [0], "x", "y", "t"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234567, "1,234,567"), (0.123456, "0.123"), (12345.6, "1.23e+04")],
)
def test_numbers_are_short(value, text):
    assert plots.short(value) == text
