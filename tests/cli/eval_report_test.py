"""Tests of where `tfdet-eval --report_dir` writes; what it writes: eval_test, dynamic_test."""

import pytest

from tfdet.cli import app, eval_report
from tfdet.errors import UserError


@pytest.mark.parametrize("content", ['{"a": 1}', "[]", "no json", '{"written_by": 3}'])
def test_a_report_of_somebody_else_is_not_replaced_unasked(tmp_path, content):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(UserError, match="cannot tell that it wrote it"):
        eval_report.check(str(tmp_path), overwrite=False)
    eval_report.check(str(tmp_path), overwrite=True)


def test_a_page_without_its_figures_is_somebody_elses(tmp_path):
    (tmp_path / "report.html").write_text("<p>mine</p>")
    with pytest.raises(UserError, match=r"holds report\.html"):
        eval_report.check(str(tmp_path), overwrite=False)


def test_other_files_may_be_in_the_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    eval_report.check(str(tmp_path), overwrite=False)
    with pytest.raises(app.UsageError, match="is a file; give a folder"):
        eval_report.check(str(tmp_path / "notes.txt"), overwrite=False)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--calibrate --report_dir=r", "--calibrate takes no --report_dir"),
        ("--tradeoff --effort=0.5", "--tradeoff takes no --effort"),
        ("--tradeoff --report_dir=r --compared_with=y", "--tradeoff takes no --compared_with"),
        ("--compared_with=y", "--compared_with writes into a report; give --report_dir too"),
    ],
)
def test_flags_that_would_have_no_effect_are_refused(refused, flags, sentence):
    refused("eval", ["--model_dir=runs/x", *flags.split()], sentence, code=2)
