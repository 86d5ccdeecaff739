"""Data sets on a full disk, in processes of their own."""

import os
import resource
import signal
import subprocess
import sys

import pytest


def _run(folder, *argv: str, most: int) -> subprocess.CompletedProcess:
    """`tfdet-data` in a process that can write files of `most` bytes."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return subprocess.run(
        [sys.executable, "-m", "tfdet.cli.data", *argv],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("argv", "file"),
    [
        (("convert", "shapes:val:4"), "c/x-00000-of-00001.tfrecord"),
        (("make", "shapes", "--split=val", "--count=2"), "c/x/val/val_000000.png"),
    ],
)
def test_b14_a_full_disk_is_a_sentence_and_leaves_nothing_half(tmp_path, argv, file):
    done = _run(tmp_path, *argv, "--output=c/x", most=5_000)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("tfdet-data: ") and file in last and "Traceback" not in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
