"""Training steps on a large set for a while: does memory grow, and is a killed run the same after?

    python -m benchmarks.data_scale_training --data=coco:... --minutes=20

A tiny model is trained in a process of its own that is killed in the middle and started again from
its last state. The images, boxes and losses of all steps around the kill must be those of a run
that was not disturbed, bit by bit.
"""

import argparse
import hashlib
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

STATE = "state.npz"
_COMPARED, _KILLED_AT, _SAVED_EACH = 60, 35, 10  # steps


def _train(data: str, folder: pathlib.Path, until: float, last: int, window_bytes: int) -> None:
    """Trains up to a time or a step; a line for each step: its number, digest and memory."""
    import keras

    import tfdet
    from tfdet import files
    from tfdet.data import pipeline, sources

    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    model = tfdet.create("efficientdet-test", num_classes=80)
    model.compile(optimizer=keras.optimizers.SGD(1e-4), jit_compile=False)
    step = 0
    if (folder / STATE).is_file():
        with np.load(folder / STATE) as state:
            step = int(state["step"])
            model.set_weights([state[f"w{k}"] for k in range(len(state.files) - 1)])
    dataset = sources.open_dataset(data)
    batches = pipeline.train_batches(
        dataset, model.image_size, 8, start_step=step, window_bytes=window_bytes
    )
    print("opened", len(dataset), flush=True)
    for images, targets in batches:
        if step % _SAVED_EACH == 0:
            with files.writing(folder / STATE) as file:
                arrays = {f"w{k}": weight for k, weight in enumerate(model.get_weights())}
                np.savez(file, step=step, **arrays)
        loss = model.train_on_batch(images, targets)
        digest = hashlib.sha256(images.numpy().tobytes() + targets["boxes"].numpy().tobytes())
        digest.update(np.asarray(loss).tobytes())
        memory = pathlib.Path("/proc/self/statm").read_text().split()[1]
        resident = int(memory) * resource.getpagesize() >> 20
        print("step", step, digest.hexdigest()[:16], resident, flush=True)
        step += 1
        if time.time() > until or step == last:
            return


def _lines(run: subprocess.Popen) -> Iterator[tuple[int, str, int, float]]:
    """Step, digest, memory in MB and time of each line that a run prints."""
    for line in run.stdout or ():
        if line.startswith("step"):
            _, step, digest, memory = line.split()
            yield int(step), digest, int(memory), time.time()
    run.wait()


def _start(options: argparse.Namespace, folder: str, until: float, last: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.data_scale_training", f"--data={options.data}"]
    command += [f"--folder={folder}", f"--until={until}", f"--last_step={last}"]
    command += [f"--window_mb={options.window_mb}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _watch(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        start, reported = time.time(), 0.0
        seen: dict[int, str] = {}
        run = _start(options, folder, start + 60 * options.minutes, 0)
        for step, digest, memory, now in _lines(run):
            seen[step] = digest
            if now >= reported + 60:
                reported = now
                print(f"{now - start:6.0f} s, step {step}: {memory} MB", flush=True)
    print(f"{len(seen)} steps", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        run = _start(options, folder, start + 1e9, _COMPARED)
        found = {}
        for step, digest, *_ in _lines(run):
            found[step] = digest
            if step == _KILLED_AT:
                os.kill(run.pid, signal.SIGKILL)
        run = _start(options, folder, start + 1e9, _COMPARED)
        found |= {step: digest for step, digest, *_ in _lines(run)}
    count = min(_COMPARED, len(seen))
    same = sum(seen[step] == found.get(step) for step in range(count))
    print(f"killed and started again: {same} of {count} steps have the same bits", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="as of tfdet-train")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--window_mb", type=int, default=0, help="data.window_mb")
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--last_step", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        window = options.window_mb << 20
        _train(options.data, options.folder, options.until, options.last_step, window)
    else:
        _watch(options)


if __name__ == "__main__":
    main()
