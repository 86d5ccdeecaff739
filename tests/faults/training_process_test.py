"""Faults of a training that need a process of its own: signals, full disks, several workers."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tfdet.training import checkpoint

TINY = (
    "--hparams=model.name=efficientdet-test,model.image_size=[64,64],train.batch_size=2,"
    "train.num_epochs=2,eval.interval=1,eval.pictures=1,train.warmup_epochs=0"
)


def sigint_counts():
    """A shell starts what it runs in the background with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def command(folder, *flags):
    return [
        *(sys.executable, "-m", "tfdet.cli.train", TINY, f"--model_dir={folder}"),
        *("--data=shapes:train:24", "--val_data=shapes:val:4", *flags),
    ]


def run(folder, *flags, **options):
    done = subprocess.run(command(folder, *flags), capture_output=True, text=True, **options)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def states(folder):
    arrays, facts = checkpoint.StateFolder(pathlib.Path(folder) / "state").read()
    del facts["seconds"], facts["history"]
    return arrays, facts


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(folder).returncode == 0
    return folder


def assert_equal(ours, theirs):
    (arrays, facts), (arrays_there, facts_there) = states(ours), states(theirs)
    assert facts == facts_there
    for name, value in arrays.items():
        np.testing.assert_array_equal(value, arrays_there[name])
    for name in ("best.weights.h5", "last.weights.h5"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "moment"),
    [(signal.SIGTERM, 143, "logs/history.csv"), (signal.SIGINT, 130, "last.weights.h5")],
)
def test_B12_a_signal_saves_and_says_that_the_same_command_resumes(
    tmp_path, undisturbed, number, code, moment
):
    process = subprocess.Popen(
        command(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=sigint_counts,
    )
    awaited = tmp_path / moment
    while not awaited.exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    step = states(tmp_path)[1]["step"]
    assert step == 11 if moment == "last.weights.h5" else step >= 12
    assert f"tfdet-train: stopped; the state of step {step} of 24 is saved in {tmp_path}, and" in (
        errors
    )
    assert "the same command resumes there" in errors
    assert f"resuming at step {step} of 24" in run(tmp_path).stdout
    assert_equal(tmp_path, undisturbed)


@pytest.mark.slow
def test_B5_a_full_disk_is_a_sentence_and_the_same_command_resumes(tmp_path, undisturbed):
    size = (undisturbed / "last.weights.h5").stat().st_size // 2
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); "
    code = f"{limit}import sys; from tfdet.cli import train; sys.argv = ['x', *sys.argv[1:]]; "
    argv = command(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", f"{code}train.run()", *argv[3:]], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"tfdet-train: {tmp_path / 'last.weights.h5'} could not be written (File too large); the "
        "file that was there is as it was. Make room, or lift the limit, and run the same command "
        "again"
    ]
    assert not list(tmp_path.rglob("*.h5")) and not list(tmp_path.rglob(".tmp-*"))
    assert run(tmp_path).returncode == 0
    assert_equal(tmp_path, undisturbed)


def _with_workers(count):
    """Environments in which processes are the workers of a cluster, and their addresses."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    tasks = [{"type": "worker", "index": i} for i in range(count)]
    configs = [json.dumps({"cluster": {"worker": addresses}, "task": task}) for task in tasks]
    return [{**os.environ, "TF_CONFIG": config} for config in configs], addresses


def test_B3_a_worker_that_cannot_be_reached_is_waited_for_and_named(tmp_path):
    (environment, _), addresses = _with_workers(2)
    folder = tmp_path / "m"
    flags = ("--strategy=multi_worker", "--connect_seconds=3")
    done = run(folder, *flags, env=environment)
    assert done.returncode == 1
    waiting, last = done.stderr.splitlines()
    assert waiting.startswith(f"waiting for {addresses[1]} (Connection refused); ")
    assert last.startswith(f"tfdet-train: no answer within 3 s from {addresses[1]} (Connection ref")
    assert not folder.exists()


def test_B3_ctrl_c_ends_the_waiting(tmp_path):
    (environment, _), _ = _with_workers(2)
    process = subprocess.Popen(
        command(tmp_path / "m", "--strategy=multi_worker"),
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=sigint_counts,
    )
    assert process.stderr.readline().startswith("waiting for ")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "tfdet-train: stopped by Ctrl-C\n"


@pytest.mark.slow
def test_B4_a_cluster_of_one_worker_trains(tmp_path):
    (environment,), _ = _with_workers(1)
    assert run(tmp_path, "--strategy=multi_worker", env=environment).returncode == 0
    assert (tmp_path / "best.weights.h5").is_file()


@pytest.mark.slow
def test_P23_two_workers_end_without_a_word_of_crashes(tmp_path):
    environments, _ = _with_workers(2)
    argv = command(tmp_path, "--strategy=multi_worker", "--num_epochs=1")
    processes = [
        subprocess.Popen(argv, env=one, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for one in environments
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        said = [line for line in errors.splitlines() if not line.startswith("waiting for ")]
        assert said == ["all 2 workers answer; they start within 300 s or end"]
    assert (tmp_path / "best.weights.h5").is_file()
