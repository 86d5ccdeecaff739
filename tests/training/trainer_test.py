import csv
import os
import pathlib
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from tfdet.training import checkpoint

STEPS_PER_EPOCH = 15
HPARAMS = (
    "model.name=efficientdet-test,model.max_level=5,model.drop_connect=0.2,train.batch_size=2,train.num_epochs=3,"
    "train.warmup_epochs=0.5,train.save_seconds=0,eval.interval=2,eval.batch_size=4,eval.pictures=2"
)


def command(model_dir, *flags):
    return [
        *(sys.executable, "-m", "tfdet.cli.train", f"--hparams={HPARAMS}"),
        *(f"--data=shapes:train:{2 * STEPS_PER_EPOCH}", "--val_data=shapes:val:4"),
        *(f"--model_dir={model_dir}", *flags),
    ]


def run_to_the_end(model_dir, *flags):
    done = subprocess.run(command(model_dir, *flags), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def newest_step(model_dir):
    files = sorted((model_dir / "state").glob("[0-9]*.npz"))
    return int(files[-1].stem) if files else 0


def kill_after(model_dir, steps, moment, rng):
    """Runs until `steps` more have been saved, then kills at once, later, or within a write."""
    wanted = newest_step(model_dir) + steps
    process = subprocess.Popen(
        command(model_dir), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while newest_step(model_dir) < wanted and process.poll() is None:
        time.sleep(0.002)
    if moment == "later":
        time.sleep(rng.uniform(0, 0.1))
    while moment == "write" and process.poll() is None:
        if any(model_dir.rglob(".tmp-*")):
            break
    assert process.poll() is None, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def weights(path):
    values = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: values.update({name: item[()]} if hasattr(item, "shape") else {})
        )
    return values


def history(model_dir):
    with open(model_dir / "logs" / "history.csv") as file:
        rows = list(csv.DictReader(file))
    timings = {"seconds", "images_per_second"}
    return [{k: v for k, v in row.items() if k not in timings} for row in rows]


def assert_equal_runs(ours: pathlib.Path, theirs: pathlib.Path):
    (arrays, facts), (arrays_there, facts_there) = (
        checkpoint.StateFolder(folder / "state").read() for folder in (ours, theirs)
    )
    assert facts["step"] == facts_there["step"] == 3 * STEPS_PER_EPOCH
    assert facts["best_score"] == facts_there["best_score"]
    assert sorted(arrays) == sorted(arrays_there)
    for key, value in arrays.items():
        np.testing.assert_array_equal(value, arrays_there[key], err_msg=key)
    for name in ("best.weights.h5", "last.weights.h5"):
        values, values_there = weights(ours / name), weights(theirs / name)
        assert values.keys() == values_there.keys()
        for key, value in values.items():
            np.testing.assert_array_equal(value, values_there[key], err_msg=f"{name} {key}")
    assert history(ours) == history(theirs)
    assert [row["epoch"] for row in history(ours)] == ["1", "2", "3"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("undisturbed")
    run_to_the_end(model_dir)
    return model_dir


@pytest.mark.parametrize(
    "kills", [2, pytest.param(10, marks=pytest.mark.slow)], ids=["two_kills", "ten_kills"]
)
def test_a_killed_run_ends_with_the_same_bits(tmp_path, undisturbed, kills):
    rng = np.random.default_rng(kills)
    kill_after(tmp_path, STEPS_PER_EPOCH, "now", rng)  # right between two epochs
    for steps in rng.integers(1, 2 * STEPS_PER_EPOCH // kills, size=kills - 1):
        kill_after(tmp_path, steps, rng.choice(["now", "later", "write"]), rng)
    run_to_the_end(tmp_path)
    assert_equal_runs(tmp_path, undisturbed)
