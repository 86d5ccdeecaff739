"""`tfdet-search`: what it refuses, and a whole search that is killed, finished and used."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.nas import small_search
from tfdet.nas.candidates import Table
from tfdet.training import trained


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("detectors")
    for name in ("base", "larger", "smaller"):
        small_search.write_detector(root / name, getattr(small_search, name.upper()))
    small_search.write_detector(root / "pool", small_search.SUPER, elastic=small_search.ELASTIC)
    return root


def flags(folders, folder, *more, teacher="larger"):
    return [
        *(f"--hparams={small_search.HPARAMS}", f"--base={folders}/base"),
        *(f"--teacher={folders}/{teacher}", f"--search_dir={folder}", *more),
    ]


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--teacher={}/smaller"], 1, "fewer than the student's"),
        (["--teacher={}/gone"], 1, "there is no folder"),
        (["--teacher="], 1, "no teacher: give the folder"),
        (["--base="], 1, "no base detector: give --base"),
        (["--base={}"], 1, "is not a training folder"),
        (["--data=shapes:tain"], 1, "shapes"),
        (["--hparams=search.candidate=3"], 1, "did you mean 'candidates'"),
        (["--hparams=morphism.kinds=[prune]"], 1, "morphism.kinds"),
        (["--hparams=train.pretrained=runs/a"], 1, "train.pretrained is chosen by the search"),
        (
            ["--hparams=search.sizes=[[64,64],[100000,100000]]"],
            1,
            "search.sizes has [100000, 100000]: image_size must be at most 67108864 pixels",
        ),
        (["--hparams=search.sizes=[[0,64]]"], 1, "search.sizes has [0, 64]: image_size must be"),
        (["--hparams=score.form=best"], 1, "score.form must be one of"),
        (["--workers=0"], 2, "--workers must be"),
        (["--candidate=3"], 2, "--candidate is for --mode=student"),
        (["--mode=finetune"], 2, "--mode=finetune takes no --base"),
    ],
)
def test_mistakes_leave_no_folder(refused, folders, tmp_path, more, code, message):
    argv = flags(folders, tmp_path / "s", *(word.format(folders) for word in more))
    refused("search", argv, message, code=code)
    assert not (tmp_path / "s").exists()


def test_a_base_of_another_family_leaves_no_folder(refused, folders, model_dir, tmp_path):
    argv = flags(folders, tmp_path / "s", f"--base={model_dir}")
    refused("search", argv, "(efficientdet-test) stands on no ResNet that can be changed")
    assert not (tmp_path / "s").exists()


def test_workers_without_ray_are_told_how_to_get_it(refused, folders, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    refused("search", flags(folders, tmp_path / "s", "--workers=2"), "pip install 'tfdet[ray]'")
    assert not (tmp_path / "s").exists()


def test_folders_without_a_search_cannot_be_finished(refused, tmp_path):
    argv = ("--mode=student", f"--search_dir={tmp_path}")
    refused("search", argv, "is not the folder of a search: it has no search.yaml")


ENCODINGS = {
    "not JSON": ("[[[16, 16]], ", "is not JSON in line 1"),
    "three stages": ("[[[16, 16]], [[16, 16]], [[16, 16]]]", "must have 4 stages, got 3"),
    "an empty stage": ("[[[16,16]], [], [[16,16]], [[16,16]]]", "stage 2 has no block"),
    "four widths": ("[[[8,8,8,8]], [[8,8]], [[8,8]], [[8,8]]]", "2 widths (basic block) or 3"),
    "a mixture": ("[[[8,8]], [[8,8,8]], [[8,8]], [[8,8]]]", "cannot be mixed"),
    "a width of 0": ("[[[8,0]], [[8,8]], [[8,8]], [[8,8]]]", "each width must be at least 1"),
    "half a channel": ("[[[8,8.5]], [[8,8]], [[8,8]], [[8,8]]]", "must have whole numbers"),
    "an unknown key": ('{"stages": [], "stm": 8}', "did you mean 'stem'?"),
    "a key twice": ('{"stages": [], "stages": []}', "the key 'stages' stands twice"),
    "a lost projection": (
        '{"stages": [[{"widths": [8, 8]}], [{"widths": [16, 16], "stride": 2}], '
        '[{"widths": [16, 16]}], [{"widths": [16, 16]}]], "stem": 8}',
        "its shortcut needs a projection",
    ),
    "a lost stride": (
        '{"stages": [[{"widths": [8, 8]}], [{"widths": [8, 8]}], [{"widths": [8, 8]}], '
        '[{"widths": [8, 8]}]], "stem": 8}',
        "must have stride 2",
    ),
}


@pytest.mark.parametrize("mistake", ENCODINGS)
def test_encodings_with_a_mistake_are_refused(refused, tmp_path, mistake):
    text, message = ENCODINGS[mistake]
    (tmp_path / "student.json").write_text(text)
    hparams = f"model.name=faster-rcnn-test,model.backbone={tmp_path}/student.json"
    argv = (f"--hparams={hparams}", "--data=shapes:train:4", f"--model_dir={tmp_path}/m")
    refused("train", argv, "student.json", message)
    assert not (tmp_path / "m").exists()


def start(folders, folder, teacher):
    words = [sys.executable, "-m", "tfdet.cli.search", *flags(folders, folder, teacher=teacher)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run_to_the_end(folders, folder, teacher):
    process = start(folders, folder, teacher)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("teacher", "number", "code"),
    [("larger", signal.SIGTERM, 143), ("pool", signal.SIGKILL, -signal.SIGKILL)],
)
def test_a_killed_search_ends_with_the_same_rows_and_its_student_is_used(
    run, folders, tmp_path, teacher, number, code
):
    one, two = tmp_path / "undisturbed", tmp_path / "killed"
    run_to_the_end(folders, one, teacher)
    process = start(folders, two, teacher)
    while len(Table(two)) < 4:  # in the middle of the second generation
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(process.pid, number)
    text, _ = process.communicate()
    assert process.returncode == code
    assert number == signal.SIGKILL or "stopped; 3 of 4 candidates are in" in text
    assert "going on after 3 of 4 candidates" in run_to_the_end(folders, two, teacher)
    rows, again = Table(one), Table(two)
    assert small_search.facts(rows) == small_search.facts(again)
    best = max(rows.values(), key=lambda row: row.score)
    student = two / f"student_{best.number:04d}"
    assert trained.load_trained(student).config.backbone == best.net
    code, said, _ = run("eval", f"--model_dir={student}", "--data=shapes:val:8")
    assert code == 0 and f"{100 * best.ap:.1f}" in said
    code, said, _ = run("search", "--mode=finetune", f"--search_dir={two}")
    tuned = two / f"finetuned_{best.number:04d}"
    assert code == 0 and str(tuned) in said
    assert trained.trained_recipe(tuned).train.additions["distill"].teacher
    assert trained.load_trained(tuned).config.backbone == best.net
    output = tmp_path / "exported"
    code, _, _ = run("export", f"--model_dir={tuned}", f"--output={output}")
    assert code == 0 and (output / "saved_model.pb").is_file()


@pytest.mark.slow
def test_a_pool_is_searched_and_the_found_subnet_is_used(run, folders, tmp_path, without_graphs):
    words = [f"--hparams={small_search.POOL_HPARAMS}", f"--base={folders}/pool"]
    words.append(f"--search_dir={tmp_path}")
    code, said, _ = run("search", *words)
    assert code == 0, said
    table = Table(tmp_path)
    assert sorted(table) == [0, 1, 2, 3] and table[0].subnet.widths == (1.5,) * 4
    best = max(table.values(), key=lambda row: row.score)
    assert f"the best of 3 candidates is {best.number}" in said
    student = tmp_path / f"student_{best.number:04d}"
    assert trained.load_trained(student).config.backbone == best.net
    code, said, _ = run("eval", f"--model_dir={student}", "--data=shapes:val:8")
    assert code == 0 and f"{100 * best.ap:.1f}" in said
    shown = "base" if not best.number else str(best.subnet).partition(" @ ")[0]
    assert f"- {best.number}: {shown} at " in (tmp_path / "report.md").read_text()
    assert (tmp_path / "pareto.png").is_file() and (tmp_path / "score.png").is_file()
    text = (tmp_path / "candidates.jsonl").read_text()
    code, said, _ = run("search", *words)  # nothing is left to do
    assert code == 0 and "going on after 3 of 3 candidates" in said
    assert (tmp_path / "candidates.jsonl").read_text() == text
