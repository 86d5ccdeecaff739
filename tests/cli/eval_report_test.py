"""Tests of `tfdet-eval --report_dir`."""

import json

import pytest

from tfdet.cli import app, eval_report
from tfdet.errors import UserError

pytestmark = pytest.mark.usefixtures("plain_graphs")

DATA = "--data=shapes:val:6"


def test_the_report_has_the_numbers_of_the_table(model_dir, tmp_path, run):
    folder, numbers = tmp_path / "new" / "report", tmp_path / "numbers.json"
    files = (f"--report_dir={folder}", f"--json_out={numbers}")
    code, output, _ = run("eval", f"--model_dir={model_dir}", DATA, *files)
    assert code == 0
    assert f"wrote {folder / 'report.html'}" in output
    facts, metrics = (json.loads(path.read_text()) for path in (folder / "report.json", numbers))
    assert facts["data"] == "shapes:val:6"
    assert facts["model"] == "efficientdet-test"
    assert facts["metrics"] == {k: v for k, v in metrics["metrics"].items() if "/" not in k}
    assert [row["AP"] for row in facts["classes"]] == [
        metrics["metrics"][f"AP/{row['class']}"] for row in facts["classes"]
    ]
    assert sum(row["images"] for row in facts["by_difficulty"]) == 6
    assert "dynamic" not in facts
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"{facts['detections']:,} detections" in page
    # Its own report is replaced, and nothing else is there.
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    eval_report.check(str(folder), overwrite=False)


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
    ],
)
def test_flags_that_would_have_no_effect_are_refused(refused, model_dir, flags, sentence):
    refused("eval", [f"--model_dir={model_dir}", *flags.split()], sentence, code=2)
