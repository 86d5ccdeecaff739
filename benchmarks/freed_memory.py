"""What it saves to keep freed memory (`tfdet.memory`), and prints a Markdown table.

    python -m benchmarks.freed_memory [--model=faster-rcnn-nano] [--image_size=160,160] [--batch=16]

Training steps in processes of their own that keep or give back, in turn. CPU seconds are told and
not the clock's, so that it does not matter what else the machine does.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys

from tfdet import memory

WARM_UP = 2


def train(options: argparse.Namespace) -> dict[str, float]:
    """Trains in this process; user's and system's seconds and page faults of a step, and MiB."""
    if options.mode == "keep" and not memory.keep_freed_memory():
        raise SystemExit("memory cannot be kept here: no glibc, or variables that forbid it")
    import keras
    import tensorflow as tf

    import tfdet
    from benchmarks.packdet import example_batch, peak_mib

    keras.utils.set_random_seed(0)
    size = tuple(int(x) for x in options.image_size.split(","))
    model = tfdet.create(options.model, image_size=size)
    model.compile(optimizer=keras.optimizers.SGD(1e-3), jit_compile=False)
    batches = tf.data.Dataset.from_tensors(example_batch(size, options.batch)).repeat()
    model.fit(batches, steps_per_epoch=WARM_UP, verbose=0)
    before = resource.getrusage(resource.RUSAGE_SELF)
    model.fit(batches, steps_per_epoch=options.steps, verbose=0)
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = {
        "user": after.ru_utime - before.ru_utime,
        "system": after.ru_stime - before.ru_stime,
        "faults": after.ru_minflt - before.ru_minflt,
    }
    return {**{name: x / options.steps for name, x in spent.items()}, "peak_mib": peak_mib()}


def compare(options: argparse.Namespace) -> None:
    """Prints the medians of both kinds of processes."""
    found: dict[str, list[dict[str, float]]] = {"give back": [], "keep": []}
    for _ in range(options.repeats):
        for mode, runs in found.items():
            command = [sys.executable, "-m", "benchmarks.freed_memory", *sys.argv[1:]]
            command.append(f"--mode={mode}")
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    print(
        "| freed memory | user, s/step | system, s/step | page faults | peak, MiB |\n"
        "|---|---|---|---|---|"
    )
    for mode, runs in found.items():
        user, system, faults, peak = (statistics.median(run[k] for run in runs) for k in runs[0])
        print(f"| {mode} | {user:.3f} | {system:.3f} | {faults:.0f} | {peak:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="faster-rcnn-nano")
    parser.add_argument("--image_size", default="160,160", help="HEIGHT,WIDTH")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mode", choices=("give back", "keep"), help="one process; prints JSON")
    options = parser.parse_args()
    if options.mode:
        print(json.dumps(train(options)))
    else:
        compare(options)


if __name__ == "__main__":
    main()
