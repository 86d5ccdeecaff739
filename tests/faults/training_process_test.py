"""Faults of a training that need a process of its own: signals, full disks, several workers."""

import json
import pathlib
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.faults import processes
from tfdet.training import checkpoint

TINY = (
    "--hparams=model.name=efficientdet-test,model.image_size=[64,64],train.batch_size=2,"
    "train.num_epochs=2,eval.interval=1,eval.pictures=1,train.warmup_epochs=0"
)


def command(folder, *flags):
    data = "--data=shapes:train:24", "--val_data=shapes:val:4"
    return ["tfdet-train", TINY, f"--model_dir={folder}", *data, *flags]


def start(folder, *flags, environment=None):
    return processes.Process(command(folder, *flags), folder.parent, environment=environment)


def run(folder, *flags, environment=None):
    """The exit code, what was printed, and the errors."""
    process = start(folder, *flags, environment=environment)
    printed, errors = process.communicate()
    assert "Traceback" not in errors, errors
    return process.returncode, printed, errors


def states(folder):
    arrays, facts = checkpoint.StateFolder(pathlib.Path(folder) / "state").read()
    del facts["seconds"], facts["history"]
    return arrays, facts


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(folder)[0] == 0
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
    process = start(tmp_path)
    process.wait_until((tmp_path / moment).exists)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    step = states(tmp_path)[1]["step"]
    assert step == 11 if moment == "last.weights.h5" else step >= 12
    assert f"tfdet-train: stopped; the state of step {step} of 24 is saved in {tmp_path}, and" in (
        errors
    )
    assert "the same command resumes there" in errors
    assert f"resuming at step {step} of 24" in run(tmp_path)[1]
    assert_equal(tmp_path, undisturbed)


@pytest.mark.slow
def test_B5_a_full_disk_is_a_sentence_and_the_same_command_resumes(tmp_path, undisturbed):
    size = (undisturbed / "last.weights.h5").stat().st_size // 2
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); "
    code = f"{limit}import sys; from tfdet.cli import train; sys.argv = ['x', *sys.argv[1:]]; "
    _, *argv = command(tmp_path)  # a broken HDF5 would break the end of Python too
    done = subprocess.run(
        [sys.executable, "-c", f"{code}train.run()", *argv], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"tfdet-train: {tmp_path / 'last.weights.h5'} could not be written (File too large); the "
        "file that was there is as it was. Make room, or lift the limit, and run the same command "
        "again"
    ]
    assert not list(tmp_path.rglob("*.h5")) and not list(tmp_path.rglob(".tmp-*"))
    assert run(tmp_path)[0] == 0
    assert_equal(tmp_path, undisturbed)


def _with_workers(count):
    """Environments in which processes are the workers of a cluster, and their addresses."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    tasks = [{"type": "worker", "index": i} for i in range(count)]
    configs = [json.dumps({"cluster": {"worker": addresses}, "task": task}) for task in tasks]
    return [{"TF_CONFIG": config} for config in configs], addresses


def test_B3_a_worker_that_cannot_be_reached_is_waited_for_and_named(tmp_path):
    (environment, _), addresses = _with_workers(2)
    folder = tmp_path / "m"
    flags = ("--strategy=multi_worker", "--connect_seconds=3")
    code, _, errors = run(folder, *flags, environment=environment)
    assert code == 1
    waiting, last = errors.splitlines()
    assert waiting.startswith(f"waiting for {addresses[1]} (Connection refused); ")
    assert last.startswith(f"tfdet-train: no answer within 3 s from {addresses[1]} (Connection ref")
    assert not folder.exists()


def test_B3_ctrl_c_ends_the_waiting(tmp_path):
    (environment, _), _ = _with_workers(2)
    process = start(tmp_path / "m", "--strategy=multi_worker", environment=environment)
    process.wait_until(lambda: process.errors.startswith("waiting for "))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "tfdet-train: stopped by Ctrl-C"


@pytest.mark.slow
def test_B4_a_cluster_of_one_worker_trains(tmp_path):
    (environment,), _ = _with_workers(1)
    assert run(tmp_path, "--strategy=multi_worker", environment=environment)[0] == 0
    assert (tmp_path / "best.weights.h5").is_file()


@pytest.mark.slow
def test_P23_two_workers_end_without_a_word_of_crashes(tmp_path):
    environments, _ = _with_workers(2)
    flags = "--strategy=multi_worker", "--num_epochs=1"
    workers = [start(tmp_path, *flags, environment=one) for one in environments]
    for process in workers:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        said = [line for line in errors.splitlines() if not line.startswith("waiting for ")]
        assert said == ["all 2 workers answer; they start within 300 s or end"]
    assert (tmp_path / "best.weights.h5").is_file()
