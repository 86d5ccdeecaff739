"""A dynamic detector through the commands: both training steps, calibration, trade-off, speeds."""

import contextlib
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tfdet import config
from tfdet.data import sources
from tfdet.training import checkpoint, trained, trainer

STEPS = 6
SLOW = pytest.mark.slow
COMMON = {
    "model.name": "dy-efficientdet-test",
    "model.first.max_level": 5,
    "model.second.max_level": 5,
    "data.train": f"shapes:train:{2 * STEPS}",
    "data.val": "shapes:val:12",
    "train.batch_size": 2,
    "train.warmup_epochs": 0.5,
    "eval.interval": 1,
    "eval.batch_size": 6,
    "eval.pictures": 0,
}


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    trainer.train(config.make_recipe(changes={**COMMON, "train.num_epochs": 1}), folder)
    return folder


def _router_changes(joint):
    return {
        **COMMON,
        "model.step": "router",
        "model.router_loss.offset": "full",
        "train.num_epochs": 2,
        "eval.interval": 2,
        "train.optimizer": "adamw",
        "train.learning_rate": 0.01,
        "train.ema_decay": 0.0,
        "train.pretrained": str(joint),
    }


@pytest.fixture(scope="module")
def trained_router(joint, tmp_path_factory):
    """Its folder, and what the training said."""
    folder, said = tmp_path_factory.mktemp("router"), io.StringIO()
    with contextlib.redirect_stdout(said):
        trainer.train(config.make_recipe(changes=_router_changes(joint)), folder)
    return folder, said.getvalue()


@pytest.fixture(scope="module")
def router(trained_router):
    return trained_router[0]


@pytest.fixture(scope="module")
def table(router):
    return trained.load_trained(router).calibration


def test_the_joint_step_measures_the_second_detector(joint):
    (row,) = [json.loads(x) for x in (joint / "logs" / "history.jsonl").read_text().splitlines()]
    assert row["loss"] == pytest.approx(
        sum(row[f"{role}_{x}_loss"] for role in ("first", "second") for x in ("class", "box"))
        + row["l2_loss"],
        rel=1e-4,
    )
    assert row["AP"] >= 0
    assert not (joint / trained.CALIBRATION_FILE).exists()
    assert trained.load_trained(joint).threshold == 1.0


def test_the_router_step_leaves_the_detectors_and_keeps_its_record(joint, router):
    before, after = trained.load_trained(joint), trained.load_trained(router)
    for mine, theirs in zip(after.weights, before.weights, strict=True):
        is_equal = np.array_equal(mine, theirs)
        assert is_equal != ("/router/" in mine.path), mine.path
    arrays, facts = checkpoint.StateFolder(router / "state").read()
    gains, seen, offset = (arrays[f"run/{i}"] for i in range(3))
    assert facts["step"] == 2 * STEPS
    assert seen == 2 * STEPS  # before the first step
    assert offset == np.float32(np.median(gains[:seen]))
    rows = [json.loads(x) for x in (router / "logs" / "history.jsonl").read_text().splitlines()]
    assert {"router_loss", "easiness", "offset", "first_loss", "second_loss"} <= rows[-1].keys()


def test_a_full_median_is_announced(trained_router):
    assert "measuring the gain of the second detector" in trained_router[1]


@pytest.mark.slow
def test_a_running_median_is_of_the_images_that_were_trained_on(joint, tmp_path):
    changes = _router_changes(joint) | {"model.router_loss.offset": "running"}
    trainer.train(config.make_recipe(changes=changes), tmp_path, measure=False)
    arrays, _ = checkpoint.StateFolder(tmp_path / "state").read()
    gains, seen, offset = (arrays[f"run/{i}"] for i in range(3))
    assert seen == 4 * STEPS
    assert offset == np.float32(np.median(gains[:seen]))


@pytest.mark.slow
def test_a_router_step_that_is_killed_ends_with_the_same_bits(joint, tmp_path):
    changes = _router_changes(joint) | {
        "model.router_loss.offset": "running",
        "train.save_seconds": 0.0,
    }
    hparams = ",".join(f"{key}={value}" for key, value in changes.items())
    command = [sys.executable, "-m", "tfdet.cli.train", f"--hparams={hparams}"]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    subprocess.run([*command, f"--model_dir={undisturbed}"], check=True, capture_output=True)
    command.append(f"--model_dir={killed}")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((killed / "state").glob("0*[3-9].npz")):
        assert process.poll() is None
    process.kill()
    process.wait()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "resuming at step" in done.stdout
    (ours, _), (theirs, _) = (
        checkpoint.StateFolder(folder / "state").read() for folder in (killed, undisturbed)
    )
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key], err_msg=key)


def test_training_the_router_ends_with_a_calibration(router):
    model = trained.load_trained(router)
    assert model.calibration.images == 12
    assert model.threshold == 0.5


def _eval(run, router, flag, path):
    """What the command says, and the facts that it writes to `path`."""
    code, said, _ = run("eval", f"--model_dir={router}", flag, f"--json_out={path}")
    assert code == 0
    return said, json.loads(path.read_text())


@pytest.mark.parametrize("flag", ["--target_madds", pytest.param("--effort", marks=SLOW)])
def test_eval_meets_a_cost(run, router, table, tmp_path, flag):
    wanted = (table.macs[0] + table.macs[-1]) / 2
    value = 0.5 if flag == "--effort" else wanted
    _, facts = _eval(run, router, f"{flag}={value}", tmp_path / "out.json")
    assert facts["macs"] == pytest.approx(wanted, rel=0.05)


def test_calibrate_keeps_a_table_of_other_data(run, router):
    before = (router / trained.CALIBRATION_FILE).read_bytes()
    code, said, _ = run("eval", f"--model_dir={router}", "--calibrate", "--data=shapes:val:7")
    assert code == 0 and "100 %" in said
    assert trained.load_trained(router).calibration.images == 7
    (router / trained.CALIBRATION_FILE).write_bytes(before)


def test_trade_off_writes_table_and_figure_and_ends_as_eval_at_a_threshold(
    run, router, table, tmp_path
):
    path, figure = tmp_path / "tradeoff.json", tmp_path / "tradeoff.png"
    flags = (f"--json_out={path}", f"--figure_out={figure}", "--random_draws=1")
    report = ("--threshold=1", f"--report_dir={tmp_path / 'report'}")
    code, said, _ = run("eval", f"--model_dir={router}", "--tradeoff", *flags, *report)
    assert code == 0
    assert "gained over interpolating" in said
    result = json.loads(path.read_text())
    assert len(result["curve"]) == 11
    assert len(result["targets"]["target_madds"]) == 10
    assert Image.open(figure).size[0] > 800
    _check_report(tmp_path / "report", result)
    said, alone = _eval(run, router, "--threshold=1", path)
    assert "100.0 % of the images were hard" in said
    assert alone["share"] == 1.0
    assert alone["macs"] == pytest.approx(table.macs[-1])
    assert alone["macs"] == pytest.approx(result["curve"][-1]["macs"])
    assert alone["metrics"]["AP"] == pytest.approx(result["curve"][-1]["AP"], abs=1e-6)


def _check_report(folder, result):
    """It has the trade-off, and what the chosen threshold finds."""
    facts = json.loads((folder / "report.json").read_text())
    curve, dynamic = facts["dynamic"]["tradeoff"]["curve"], facts["dynamic"]
    assert curve == result["curve"]
    assert facts["metrics"]["AP"] == curve[-1]["AP"]
    assert (dynamic["threshold"], dynamic["share"]) == (1, 1)
    assert dynamic["macs"] == pytest.approx(curve[-1]["macs"])
    assert sum(dynamic["scores"]["count"]) == facts["images"] == 12
    scores = [row["score"] for row in dynamic["hardest"]]
    assert scores == sorted(scores)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in page for name in ("tradeoff", "effort", "ends"))


@pytest.mark.parametrize(
    ("flag", "percent"), [("--effort=0", 0), pytest.param("--threshold=1", 100, marks=SLOW)]
)
def test_infer_takes_the_path_that_is_asked_for(run, router, tmp_path, flag, percent):
    photos, output = tmp_path / "photos", tmp_path / "found"
    photos.mkdir()
    dataset = sources.open_dataset("shapes:val:2")
    for i in range(2):
        (photos / f"{i}.png").write_bytes(dataset.encoded(i))
    folders = (f"--input={photos}", f"--output_dir={output}")
    code, said, _ = run("infer", f"--model_dir={router}", *folders, flag)
    assert code == 0
    assert f"{percent} % of the images were hard" in said
    for image in json.loads((output / "detections.json").read_text()):
        assert image["is_hard"] is (percent == 100)
        assert 0 <= image["easiness"] < 1


def test_inspect_shows_the_cost_of_each_path(run):
    code, said, _ = run("inspect", "--model_name=dy-efficientdet-test")
    assert code == 0
    assert "path: early" in said and "path: late" in said
    code, said, _ = run("inspect", "--model_name=dy-efficientdet-test", "--format=json")
    routes = json.loads(said)["routes"]
    assert 0 < routes["early"] < routes["late"]


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ("--threshold=0.5 --target_madds=1e9", 2, "only one of --threshold and --target_madds"),
        ("--threshold=2", 2, "--threshold must be between 0 and 1, got 2"),
        ("--tradeoff --threshold=0.5", 2, "--tradeoff takes no --threshold"),
        ("--calibrate --tradeoff", 2, "only one of --calibrate and --tradeoff"),
        ("--figure_out=x.png", 2, "--figure_out belongs to --tradeoff"),
        ("--effort=1.5", 2, "--effort must be between 0 and 1, got 1.5"),
        ("--effort=0.5 --threshold=0.5", 2, "only one of --effort and --threshold"),
        ("--tradeoff --effort=0.5", 2, "--tradeoff takes no --effort"),
        ("--tradeoff --random_draws=0", 2, "--random_draws must be above 0"),
        ("--target_latency_ms=-1", 2, "must be above 0"),
    ],
)
def test_wrong_efforts_are_refused(refused, router, flags, code, message):
    refused("eval", [f"--model_dir={router}", *flags.split()], message, code=code)


@pytest.mark.parametrize(
    "flag",
    [
        pytest.param("--threshold=0.5", marks=SLOW),
        "--effort=0.5",
        "--calibrate",
        pytest.param("--tradeoff", marks=SLOW),
    ],
)
def test_static_detectors_have_no_effort(refused, model_dir, flag):
    words = "static" if "0.5" in flag else "no dynamic detector"
    refused("eval", [f"--model_dir={model_dir}", "--data=shapes:val:2", flag], words)


@pytest.mark.parametrize("flag", ["--target_madds=2e6", pytest.param("--effort=0.5", marks=SLOW)])
def test_efforts_and_targets_need_a_calibration(refused, joint, flag):
    refused("eval", [f"--model_dir={joint}", flag], "tfdet-eval --calibrate")


@pytest.mark.parametrize(("target", "end"), [(1e3, 0), pytest.param(1e15, -1, marks=SLOW)])
def test_a_target_out_of_reach_is_the_nearest_that_can_be_reached(
    run, router, table, tmp_path, target, end
):
    said, facts = _eval(run, router, f"--target_madds={target:g}", tmp_path / "out.json")
    assert f"--target_madds={target:g} is out of reach" in said
    assert facts["macs"] == pytest.approx(table.macs[end])
