"""Training steps of two checkouts of this repository, in processes that take turns; Markdown.

    git worktree add ../before COMMIT
    python -m benchmarks.training_pair --before=../before [--models=...] [--rows=FILE.jsonl]

Both see the same load at the same time, so that the ratio holds on a busy machine. Times, the
loss's share and graph nodes are those of `benchmarks.training`; the other checkout needs nothing
but `tfdet`.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import timing

PARTS = ("forward", "loss", "backward", "update")
MODELS = (
    "efficientdet-nano,retinanet-nano,fcos-nano,packdet-nano,yolov7-nano,faster-rcnn-nano,"
    "mask-rcnn-nano,caddet-nano,detr-nano,dy-yolov7-nano,dy-efficientdet-nano,dy-faster-rcnn-nano,"
    "dy-mask-rcnn-nano"
)
COLUMNS = "model step_before step_now now/before loss_before loss_now nodes_before nodes_now"
COLUMNS += " first_step_before first_step_now"


class Worker:
    """A process with one checkout's `tfdet`, which runs a part of the step when it is told to."""

    def __init__(self, checkout: pathlib.Path, model: str, image_size: int, batch: int):
        # This checkout's benchmarks measure both.
        self.folder = tempfile.mkdtemp()
        shutil.copytree(pathlib.Path(__file__).parent, f"{self.folder}/benchmarks")
        path = os.pathsep.join([self.folder, str(checkout)])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.training_pair", model, str(image_size), str(batch)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.facts = self._answer()

    def run(self, part: str) -> float:
        """Seconds that the part took."""
        assert self.process.stdin
        print(part, file=self.process.stdin, flush=True)
        return self._answer()["seconds"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit("a worker ended; run it alone to see why: " + " ".join(self.process.args))

    def end(self) -> None:
        """Ends the process."""
        self.process.communicate()
        shutil.rmtree(self.folder)


def work(model_name: str, image_size: int, batch: int) -> None:
    """What a worker does: facts on its first step, then seconds for each part that it is told."""
    import keras
    import tensorflow as tf

    import tfdet
    from benchmarks import training
    from tfdet.config import TrainConfig
    from tfdet.training import fitting

    keras.utils.set_random_seed(0)
    changes = {"image_size": (image_size, image_size)} if image_size else {}
    model = tfdet.create(model_name, **changes)
    examples = training.batch_of_shapes(model, batch)
    fitting.compile_model(model, TrainConfig(batch_size=batch), 100, model.name)
    runs = training.pieces(model, examples)

    def seconds(part: str) -> float:
        start = time.perf_counter()
        tf.nest.map_structure(lambda x: x.numpy(), runs[part]())
        return time.perf_counter() - start

    first = seconds("update")
    print(json.dumps({"first": first, "nodes": training.nodes_of(runs["update"])}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"seconds": seconds(line.strip())}), flush=True)


def measure(
    model: str, checkouts: dict[str, pathlib.Path], image_size: int, batch: int, repeats: int
) -> dict[str, Any]:
    """A row of the table: medians over `repeats` rounds, of which one more warms up."""
    workers = {name: Worker(path, model, image_size, batch) for name, path in checkouts.items()}
    seconds = {name: {part: [] for part in PARTS} for name in workers}
    for round_number in range(repeats + 1):
        for part in PARTS:
            for name in sorted(workers, reverse=bool(round_number % 2)):
                taken = workers[name].run(part)
                if round_number:
                    seconds[name][part].append(taken)
    row: dict[str, Any] = {"model": model, "image_size": image_size, "batch": batch}
    row["load"] = os.getloadavg()[0]
    for name, worker in workers.items():
        worker.end()
        row[name] = worker.facts | _medians(seconds[name])
    steps = [np.array(seconds[name]["update"]) for name in ("now", "before")]
    return row | {"ratio": float(np.median(steps[0] / steps[1]))}


def _medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    forward, loss, backward, step = (np.array(seconds[part]) for part in PARTS)
    return {
        "step_ms": 1e3 * float(np.median(step)),
        "forward_ms": 1e3 * float(np.median(forward)),
        "loss_ms": 1e3 * float(np.median(loss - forward)),
        "backward_ms": 1e3 * float(np.median(backward - loss)),
        "update_ms": 1e3 * float(np.median(step - backward)),
        "loss_share": float(np.median((loss - forward) / step)),
    }


def line(row: dict[str, Any]) -> str:
    """A row as Markdown."""
    before, now = row["before"], row["now"]
    cells = [
        f"`{row['model']}`",
        *(f"{x['step_ms']:.0f}" for x in (before, now)),
        f"{row['ratio']:.2f}",
        *(f"{x['loss_share']:.0%}" for x in (before, now)),
        *(f"{x['nodes']:,}" for x in (before, now)),
        *(f"{x['first']:.0f}" for x in (before, now)),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", required=True, type=pathlib.Path, help="the other checkout")
    parser.add_argument("--models", default=MODELS, help="with commas between")
    parser.add_argument("--image_size", type=int, default=160, help="of a square; 0 for the own")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rows", type=pathlib.Path, help="file to add rows to, as JSON lines")
    options = parser.parse_args()
    now = pathlib.Path(__file__).parents[1]
    checkouts = {"before": options.before.absolute(), "now": now}
    print(f"{timing.machine()}\n\nTimes of steps in ms, of first steps in s.\n")
    print("| " + " | ".join(c.replace("_", " ") for c in COLUMNS.split()) + " |")
    print("|" + "---|" * len(COLUMNS.split()))
    for model in options.models.split(","):
        row = measure(model, checkouts, options.image_size, options.batch, options.repeats)
        print(line(row), flush=True)
        if options.rows:
            with open(options.rows, "a") as file:
                print(json.dumps(row), file=file)


if __name__ == "__main__":
    if len(sys.argv) == 4 and not sys.argv[1].startswith("-"):
        work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
