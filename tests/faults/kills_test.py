"""Kills at random moments, on a disk that is full half of the time; then the command goes on.

Each command first runs through, undisturbed. Then it is killed ten times, by SIGKILL and SIGTERM in
turns, and at last let run to its end: what it writes must be what it wrote undisturbed, nothing of
it may be damaged in between, and what the user has beside it must stay as it was. A kill counts
where it found the command running; one that had come to its end begins again from nothing.
"""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import time

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.faults import inputs as good_inputs
from tests.faults import processes
from tfdet.data import problems, record_files

pytestmark = pytest.mark.slow

KILLS = 10
MEGABYTES = 48
TRAIN = (
    "tfdet-train",
    "--hparams=model.name=efficientdet-test,model.image_size=[64,64],train.batch_size=2,"
    "train.num_epochs=8,train.warmup_epochs=1,train.deterministic=true,eval.interval=4,"
    "eval.pictures=1,train.save_seconds=1",
    "--data=coco:coco.json:images",
    "--val_data=coco:coco.json:images",
    "--model_dir=out/m",
)
EXPORT = ("tfdet-export", "--model_dir=m", "--output=out/s")
INFER = ("tfdet-infer", "--saved_model=s", "--input=photos/*", "--output_dir=out/o")
INFER += ("--overwrite", "--min_score=0.01")
CONVERT = ("tfdet-data", "convert", "coco:coco.json:images", "--output=out/r", "--num_shards=3")
CONVERT += ("--overwrite",)


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A folder on a small disk of its own."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a disk of a given size")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def inputs(folder):
    """Good inputs of all commands, and files of the user's where the commands write."""
    good_inputs.write_export(folder)
    for i in range(60):
        good_inputs.picture(folder / f"photos/more{i}.png", 100 + i)
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").write_text("mine")


def prints(folder):
    """{path: digest} of all files."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def check_whole(folder):
    """Asserts that files under final names are readable to their ends."""
    for path in folder.rglob("*"):
        if not path.is_file() or any(part.startswith(".") for part in path.parts):
            continue
        if path.suffix in (".jpg", ".png"):
            Image.open(path).load()
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                assert all(arrays[name] is not None for name in arrays)
        elif path.suffix == ".h5":
            with h5py.File(path) as file:
                file.visititems(lambda name, item: getattr(item, "shape", None) and item[()])
        elif path.suffix == ".tfrecord":
            found = problems.Problems()
            assert list(record_files.records(str(path), found)) and not found.counts
            record_files.compare_checksums(str(path), found)
            assert not found.counts


def result(folder, command):
    """What must be the same: all that a command wrote, but for times and TensorBoard's logs."""
    found = prints(folder)
    if command is TRAIN:
        return {k: found[k] for k in ("m/best.weights.h5", "m/last.weights.h5")}
    if command is EXPORT:  # the graph has names that differ from run to run
        return {k: v for k, v in found.items() if "variables" in k or k.endswith("metadata.json")}
    return {k: v for k, v in found.items() if not k.rpartition("/")[2].startswith(".")}


def run_through(command, folder):
    """Seconds until there is something in the folder `out`, and until the end."""
    began = time.monotonic()
    process = processes.Process(command, folder)
    there, first = set((folder / "out").iterdir()), None
    while not process.wait(0.05):
        if first is None and set((folder / "out").iterdir()) != there:
            first = time.monotonic() - began
    assert process.returncode == 0, process.communicate()
    return first, time.monotonic() - began


def kill(command, folder, number, seconds):
    """Sends a signal to a command after some seconds; its exit code, and whether it still ran."""
    process = processes.Process(command, folder)
    is_hit = not process.wait(seconds)
    if is_hit:
        process.send_signal(number)
    text = "".join(process.communicate(timeout=600))
    assert "Traceback" not in text, text
    assert process.returncode in (0, 1, -signal.SIGKILL, -signal.SIGTERM, 143), text
    return process.returncode, is_hit


@pytest.mark.parametrize("command", [TRAIN, CONVERT, EXPORT, INFER], ids=lambda c: c[0])
def test_a_killed_command_goes_on_to_the_same_end(command, disk, tmp_path):
    chance = random.Random(command[0])
    good = tmp_path / "good"
    good.mkdir()
    inputs(good)
    first, last = run_through(command, good)

    folder, filler = disk / command[0], disk / "filler"
    folder.mkdir()
    inputs(folder)
    before = {k: v for k, v in prints(folder).items() if k == "out/mine.txt" or "out" not in k}
    codes = []
    for i in range(KILLS):
        seconds, is_hit = chance.uniform(first / 2, last), False
        while not is_hit:
            if i % 4 >= 2:
                space = shutil.disk_usage(disk).free
                filler.write_bytes(bytes(max(0, space - chance.choice((0, 20_000, 300_000)))))
            number = signal.SIGTERM if i % 2 else signal.SIGKILL
            code, is_hit = kill(command, folder, number, seconds)
            codes.append(code)
            filler.unlink(missing_ok=True)
            check_whole(folder / "out")
            now = prints(folder)
            assert {k: now.get(k) for k in before} == before
            if code == 0:  # a training would have nothing left to do
                shutil.rmtree(folder / "out" / "m", ignore_errors=True)
            seconds *= 0.7
    print(command[0], codes)
    run_through(command, folder)
    assert result(folder / "out", command) == result(good / "out", command)
    shutil.rmtree(folder)
