"""Tests of `tfdet-eval`."""

import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from tfdet.cli import eval as command
from tfdet.cli import eval_report
from tfdet.data import sources


def _run(*argv):
    return command.COMMAND.run(command.main, argv)


def test_table_and_files_agree(model_dir, tmp_path, capsys):
    numbers, found = tmp_path / "numbers.json", tmp_path / "found.json"
    argv = (f"--model_dir={model_dir}", f"--json_out={numbers}", f"--detections_out={found}")
    assert _run(*argv, f"--report_dir={tmp_path / 'new' / 'report'}") == 0
    output = capsys.readouterr()
    facts = json.loads(numbers.read_text())
    assert (facts["data"], facts["images"], facts["left_out"]) == ("shapes:val:20", 20, 0)
    assert f"AP         {100 * facts['metrics']['AP']:4.1f}" in output.out
    assert set(facts["metrics"]) >= {"AP", "AP50", "ARl", "AP/circle", "AP/cross"}
    assert "20/20 images" in output.err
    detections = json.loads(found.read_text())
    dataset = sources.open_dataset("shapes:val:20")
    assert {row["image_id"] for row in detections} <= set(dataset.image_ids.tolist())
    assert {row["category_id"] for row in detections} <= set(dataset.class_ids)
    assert np.array([row["bbox"] for row in detections]).min() >= 0
    assert "report.html" in output.out
    _check_report(tmp_path / "new" / "report", facts["metrics"], len(detections))


def _check_report(folder, metrics, detections):
    facts = json.loads((folder / "report.json").read_text())
    assert (facts["data"], facts["model"]) == ("shapes:val:20", "efficientdet-test")
    assert facts["metrics"] == {k: v for k, v in metrics.items() if "/" not in k}
    aps = {f"AP/{row['class']}": row["AP"] for row in facts["classes"]}
    assert aps == {k: v for k, v in metrics.items() if "/" in k}
    assert facts["detections"] == detections
    assert sum(row["images"] for row in facts["by_difficulty"]) == 20
    assert "dynamic" not in facts
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"{detections:,} detections" in page
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    eval_report.check(str(folder), overwrite=False)  # its own report is replaced


def test_a_report_compares_two_trainings(model_dir, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(model_dir, other)
    weights = h5py.File(other / "last.weights.h5", "r+")
    with weights:  # other random weights
        weights.visititems(lambda _, item: _scramble(item))
    argv = (
        f"--model_dir={model_dir}",
        "--data=shapes:val:5",
        f"--report_dir={tmp_path / 'report'}",
    )
    assert _run(*argv, f"--compared_with={other}") == 0
    facts = json.loads((tmp_path / "report" / "report.json").read_text())["compared"]
    assert facts["with"] == str(other) and facts["metrics"].keys() >= {"AP", "AP50"}
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert f"“other” the one of {other}, on the same images" in page
    printed = capsys.readouterr().out
    assert f"measuring {other} on the same data" in printed
    assert f"found by both {facts['objects']['both']} objects" in printed


def _scramble(item):
    if isinstance(item, h5py.Dataset) and item.ndim > 1:
        item[...] = np.random.default_rng(0).permuted(item[...])


def test_a_comparison_with_other_classes_is_refused(model_dir, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(model_dir, other)
    recipe = other / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("cross", "crate"))
    argv = (
        f"--model_dir={model_dir}",
        "--data=shapes:val:5",
        f"--report_dir={tmp_path / 'report'}",
    )
    assert _run(*argv, f"--compared_with={other}") == 1
    assert "has no class 'cross', which is measured here" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_hparams_change_the_model_of_the_folder(model_dir, tmp_path):
    found = tmp_path / "found.json"
    changes = "--hparams=model.nms.max_detections=2"
    argv = (f"--model_dir={model_dir}", "--data=shapes:val:5", changes)
    assert _run(*argv, f"--detections_out={found}") == 0
    images = [row["image_id"] for row in json.loads(found.read_text())]
    assert len(images) == 2 * len(set(images)) == 10


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ((), "give --model_dir or --model_name"),
        (("--model_dir=a", "--model_name=b"), "give only one of --model_dir or --model_name"),
        (("--model_dir=a", "--weights=b"), "--weights belongs to --model_name"),
        (("--model_name=efficientdet-d0", "--data=shapes:val"), "--model_name needs --weights"),
        (("--model_name=efficientdet-d0", "--weights=w"), "--model_name needs --data"),
        (("--model_dir=a", "--hparams=train.seed=1"), "only keys of the model can be changed"),
        (("--model_dir=a", "--hparams=model.name=b"), "only keys of the model can be changed"),
        (("--model_dir=a", "--batch_size=0"), "--batch_size must be above 0, got 0"),
        (("--model_dir=a", "--json_out=/no/such/x.json"), "its folder does not exist"),
        (("--model_dir=a", "--datta=x"), "there is no flag --datta; did you mean --data?"),
    ],
)
def test_contradictory_flags_are_refused(argv, sentence, capsys):
    assert _run(*argv) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("--model_dir=/no/such/run",), "there is no folder /no/such/run; give one"),
        (
            ("--model_name=efficientdet-tset", "--weights=w", "--data=shapes:val"),
            "efficientdet-test",
        ),
        (
            ("--model_name=efficientdet-test", "--weights=/no/w", "--data=shapes:val"),
            "/no/w do not exist",
        ),
    ],
)
def test_mistakes_end_with_one_sentence(argv, sentence, capsys):
    assert _run(*argv) == 1
    error = capsys.readouterr().err
    assert error.startswith("tfdet-eval: ")
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("others", "code", "sentence"),
    [
        (["circle", "walrus"], 0, "classes that the model does not know are left out: walrus"),
        (["orca", "walrus"], 1, "class 'orca' of data set"),
    ],
)
def test_classes_that_the_model_does_not_know(
    model_dir, tmp_path, capsys, caplog, others, code, sentence
):
    annotations = {
        "images": [],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": [9, 9, 50, 50]},
            {"id": 2, "image_id": 1, "category_id": 9, "bbox": [9, 9, 50, 50]},
        ],
        "categories": [{"id": 7 + 2 * i, "name": name} for i, name in enumerate(others)],
    }
    (tmp_path / "a.png").write_bytes(sources.open_dataset("shapes:val").encoded(0))
    annotations["images"].append({"id": 1, "file_name": "a.png", "height": 256, "width": 256})
    (tmp_path / "a.json").write_text(json.dumps(annotations))
    data = f"coco:{tmp_path / 'a.json'}:{tmp_path}"
    assert _run(f"--model_dir={model_dir}", f"--data={data}") == code
    assert sentence in capsys.readouterr().err + caplog.text


def test_help_of_module_and_console_script_are_the_same():
    script = "import sys; from tfdet.cli.eval import run; sys.argv[1:] = ['--help']; run()"
    calls = (["-m", "tfdet.cli.eval", "--help"], ["-c", script])
    texts = [
        subprocess.run([sys.executable, *call], capture_output=True, text=True, check=True).stdout
        for call in calls
    ]
    assert texts[0] == texts[1]
    assert "--model_dir" in texts[0]


def test_help_does_not_import_tensorflow():
    program = (
        "import sys; from tfdet.cli import eval, export, infer\n"
        "for c in (eval, export, infer): assert c.COMMAND.run(c.main, ['--help']) == 0\n"
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
