import json

import pytest

from tfdet import config
from tfdet.cli import data
from tfdet.data.sources import open_dataset


def _run(capsys, *argv):
    code = data.COMMAND.run(data.main, argv)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_check_prints_text_and_json(capsys):
    code, out, _ = _run(capsys, "check", "shapes:val:4")
    assert code == 0 and "shapes:val:4: 4 images" in out
    code, out, _ = _run(capsys, "check", "--data=shapes:val:4", "--json")
    assert code == 0 and json.loads(out)["images"] == 4


def test_convert_says_how_to_use_what_it_wrote(capsys, tmp_path):
    code, out, _ = _run(
        capsys, "convert", "shapes:val:4", f"--output={tmp_path}/r/val", "--num_shards=2"
    )
    assert code == 0
    spec = out.strip().splitlines()[-1].removeprefix("--data=")
    assert len(open_dataset(spec)) == 4


@pytest.mark.parametrize(
    ("flags", "sizes"), [(["--count=2"], [2, 2]), (["--count=3", "--split=val"], [3])]
)
def test_make_writes_the_shapes(capsys, tmp_path, flags, sizes):
    code, out, _ = _run(capsys, "make", "shapes", f"--output={tmp_path}", *flags)
    assert code == 0
    specs = [line.removeprefix("--data=") for line in out.splitlines() if line.startswith("--data")]
    assert [len(open_dataset(spec)) for spec in specs] == sizes
    assert len(list((tmp_path / "val").iterdir())) == sizes[-1]


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ([], 2, "expected make, convert, check, view or suggest"),
        (["chekc"], 2, "got 'chekc'"),
        (["make"], 2, "expected `make shapes`"),
        (["make", "cars", "--output=x"], 2, "make 'cars'"),
        (["make", "shapes"], 2, "--output must be given"),
        (["make", "shapes", "--output=x", "--json"], 2, "make takes no --json"),
        (["convert", "shapes:val:4"], 2, "--output must be given"),
        (["convert", "--output=x"], 2, "expected one data set, got 0"),
        (["check", "shapes", "--data=shapes"], 2, "expected one data set, got 2"),
        (["make", "shapes", "--output=x", "--count=0"], 2, "--count must be above 0, got 0"),
        (["make", "shapes", "--output=x", "--split=test"], 2, "one of train, val"),
        (["check", "shapes", "--num_shards=3"], 2, "check takes no --num_shards"),
        (["check", "voc:/nowhere:train"], 1, "/nowhere"),
        (["check", "coco:/nowhere.json:/tmp"], 1, "/nowhere.json"),
        (["convert", "shapes:val:2", "--output=/proc/x/y"], 1, "/proc/x"),
    ],
)
def test_mistakes_end_with_one_sentence(capsys, argv, code, message):
    found, _, err = _run(capsys, *argv)
    assert found == code and message in err and len(err.strip().splitlines()) == 1


def test_check_reports_what_the_levels_of_a_model_learn(run):
    argv = ("check", "shapes:train:20", "--model_name=fcos-test")
    code, said, _ = run("data", *argv, "--image_size=160,160")
    assert code == 0 and "positives by level (20 images" in said
    code, said, _ = run("data", *argv, "--json")
    assert json.loads(said)["levels"]["levels"].keys() == {"P3", "P4", "P5", "P6", "P7"}
    code, said, _ = run("data", "check", "shapes:train:4", "--model_name=yolov7-test")
    assert code == 0 and "what a level learns is chosen during training" in said
    for flags, message in (
        (["--image_size=160"], "belongs to --model_name"),
        (["--image_size=160", "--model_name=fcos-test"], "must be height,width, got 160"),
    ):
        code, _, error = run("data", "check", "shapes:train:4", *flags)
        assert code == 2 and message in error[0]


def test_suggest_writes_a_recipe_for_a_folder_without_splits(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDET_CACHE", str(tmp_path))  # without published weights
    run("data", "make", "shapes", "--split=val", "--count=12", f"--output={tmp_path}/a")
    recipe = tmp_path / "recipe.yaml"
    argv = ("suggest", f"coco:{tmp_path}/a", f"--output={recipe}", "--budget_madds=1e6")
    code, said, _ = run("data", *argv)
    assert code == 0 and f"tfdet-train --hparams={recipe}" in said
    found = config.make_recipe([str(recipe)])
    assert found.data.train == f"coco:{tmp_path}/a:train"
    assert found.data.val == f"coco:{tmp_path}/a:val"
    assert "model.name: efficientdet-nano  (" in said
    assert "budget is below what the smallest model costs" in said
    assert found.model["image_size"] == [128, 128]
    code, _, errors = run("data", *argv)
    assert code == 1 and "is there already" in errors[-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--budget_ms=5", "--budget_madds=1e9"], "only one of"),
        (["--budget_ms=0"], "--budget_ms must be above 0"),
        (["--output=recipe.txt"], "a name such as recipe.yaml"),
    ],
)
def test_suggestions_that_cannot_be_made_are_refused(refused, flags, message):
    refused("data", ("suggest", "shapes:val:4", *flags), message, code=2)
