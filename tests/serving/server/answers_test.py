"""Tests of the JSON of answers, and of the text of metrics."""

import json

import numpy as np

from tfdet.serving.server import answers
from tfdet.serving.server.metrics import Metrics

ROW = {
    "boxes": np.array([[0.2, 1, 1e-7, 16777216], [0, 0, 0, 0]], np.float32),
    "count": np.array(1, np.int32),
    "is_hard": np.array(True),
}


def test_rows_and_columns_are_those_of_tensorflow_serving():
    names = list(ROW)
    row = json.loads(answers.predictions([ROW, ROW], names, True, {}))
    one = {"boxes": [[0.2, 1.0, 1e-7, 16777216.0], [0.0] * 4], "count": 1, "is_hard": True}
    assert row == {"predictions": [one, one]}
    column = json.loads(answers.predictions([ROW, ROW], names, False, {}))
    assert column == {"outputs": {name: [value, value] for name, value in one.items()}}


def test_floats_are_the_shortest_text_that_gives_them_back():
    values = np.random.default_rng(0).normal(0, 100, (50, 2, 3)).astype(np.float32)
    text = answers.predictions([{"x": values}], ["x"], True, {}).decode()
    found = np.array(json.loads(text)["predictions"][0]["x"], np.float32)
    np.testing.assert_array_equal(found, values)
    assert b'"x":[0.2,0.1]' in answers.predictions(
        [{"x": np.array([0.2, 0.1], np.float32)}], ["x"], True, {}
    )


def test_an_answer_without_images_has_all_outputs():
    assert json.loads(answers.predictions([], ["boxes", "count"], False, {})) == {
        "outputs": {"boxes": [], "count": []}
    }


def test_refused_images_are_named_beside_the_rows():
    found = json.loads(answers.predictions([ROW], ["count"], True, {0: "damaged"}))
    assert found["errors"] == [{"image": 0, "error": "damaged"}]


def test_errors_are_ascii_whatever_they_quote():
    assert json.loads(answers.error('a "\ud800" ü \x00')) == {"error": 'a "\ud800" ü \x00'}
    assert answers.error("ü").isascii()


def test_metrics_are_in_the_form_of_prometheus():
    metrics = Metrics()
    metrics.describe("requests_total", "counter", "Requests.")
    metrics.describe("seconds", "histogram", "Times.", (0.1, 1.0))
    metrics.describe("queue", "gauge", "Waiting.")
    metrics.add("requests_total", model="a", code="200")
    metrics.add("requests_total", 2, model="a", code="200")
    metrics.add("requests_total", model='a"\\\n', code="400")
    for value in (0.05, 0.1, 0.5, 3.0):
        metrics.observe("seconds", value, model="a")
    metrics.read("queue", lambda: 7)
    assert metrics.text().splitlines() == [
        "# HELP tfdet_requests_total Requests.",
        "# TYPE tfdet_requests_total counter",
        'tfdet_requests_total{model="a",code="200"} 3',
        'tfdet_requests_total{model="a\\"\\\\\\n",code="400"} 1',
        "# HELP tfdet_seconds Times.",
        "# TYPE tfdet_seconds histogram",
        'tfdet_seconds_bucket{model="a",le="0.1"} 2',
        'tfdet_seconds_bucket{model="a",le="1.0"} 3',
        'tfdet_seconds_bucket{model="a",le="+Inf"} 4',
        'tfdet_seconds_sum{model="a"} 3.65',
        'tfdet_seconds_count{model="a"} 4',
        "# HELP tfdet_queue Waiting.",
        "# TYPE tfdet_queue gauge",
        "tfdet_queue 7",
    ]
