"""The comparison of formats: its table, and which format it names."""

import dataclasses

import pytest

from tfdet.data import sources
from tfdet.serving.formats_compared import Compared, compare_formats, fastest, format_table

PLAIN = Compared("saved_model", "float32", megabytes=4.0, ms=(20.0, 100.0), ap=0.4)
COARSE = dataclasses.replace(PLAIN, format="litert", precision="int8", ms=(5.0, 40.0), ap=0.38)
QUICK = dataclasses.replace(PLAIN, format="openvino", ms=(9.0, 50.0), ap=0.3995)
ABSENT = Compared("onnx", "float32", problem="writing onnx needs onnxruntime")


@pytest.mark.parametrize(
    ("rows", "most_loss", "name"),
    [
        ([PLAIN, COARSE, QUICK, ABSENT], 0.003, "openvino float32"),
        ([PLAIN, COARSE, QUICK, ABSENT], 0.03, "litert int8"),
        ([PLAIN, COARSE, QUICK], 0.0, "saved_model float32"),
        ([COARSE, QUICK], 0.0, "openvino float32"),
    ],
)
def test_the_fastest_of_those_that_are_precise_enough(rows, most_loss, name):
    assert fastest(rows, most_loss).name == name


def test_without_an_export_nothing_is_named():
    assert fastest([ABSENT], 0.1) is None


def test_the_table_has_a_line_for_each():
    head, plain, absent = format_table([PLAIN, ABSENT]).splitlines()
    assert " ".join(head.split()) == "format MB ms of 1 ms of 8 AP pixels score lost"
    assert " ".join(plain.split()) == "saved_model float32 4.0 20.0 100.0 40.0 0 0 0"
    assert absent.endswith("writing onnx needs onnxruntime")


@pytest.mark.slow
def test_all_that_is_installed_is_measured(make_model, tmp_path):
    data = sources.open_dataset("shapes:val").select(range(8))
    model = make_model(num_classes=5, class_names=data.class_names, class_ids=data.class_ids)
    rows = compare_formats(model, tmp_path, data)
    assert rows[0].name == "saved_model float32"
    for row in rows:
        assert bool(row.problem) != (tmp_path / row.name.replace(" ", "_")).is_dir()
        assert row.problem or (row.megabytes > 0 and 0 < row.ms[0] < row.ms[1] and row.ap >= 0)
