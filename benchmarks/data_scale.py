"""Opening a data set of COCO's size, and how many images a core prepares; prints Markdown tables.

    python -m benchmarks.data_scale --folder=/tmp/coco_sized [--records]

Each opening is a process of its own. Its processor time leaves out the start of TensorFlow, its
peak memory does not: `nothing opened` says how much that is.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from benchmarks import coco_sized, timing
from tfdet import cache_folder

_OPEN = """
import resource, sys
from tfdet.data import sources
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
before = used()
if len(sys.argv) > 1:
    dataset = sources.read_source(sys.argv[1])
    assert len(dataset) == int(sys.argv[2])
# Not ru_maxrss, which a process begins with that of the one that started it.
status = open("/proc/self/status").read()
print("used", used() - before, int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""
_RATE = """
import resource, sys, time
from tfdet.data import pipeline, sources
size = int(sys.argv[2])
dataset = sources.read_source(sys.argv[1])
batches = iter(pipeline.train_batches(dataset, (size, size), 8))
for _ in range(4):
    next(batches)
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
before, count = used(), int(sys.argv[3])
for _ in range(count):
    next(batches)
print("used", used() - before, 8 * count)
"""


def _run(script: str, *arguments: str, cache: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | {cache_folder.VARIABLE: cache},
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(word) for word in re.search(r"used (.*)", done.stdout)[1].split()]


def _print_openings(specs: dict[str, str], count: int) -> None:
    print("| opened | processor time, s | peak memory, MB |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as cache:
        _, peak = _run(_OPEN, cache=cache)
        print(f"| nothing opened | 0 | {peak:.0f} |", flush=True)
        for form, spec in specs.items():
            for time in ("first", "second"):
                seconds, peak = _run(_OPEN, spec, str(count), cache=cache)
                print(f"| {form}, {time} time | {seconds:.1f} | {peak:.0f} |", flush=True)


def _print_rates(specs: dict[str, str], sides: list[int], batches: int) -> None:
    print("\n| images | canvas | images/s of a core |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as cache:
        for form, spec in specs.items():
            for side in sides:
                seconds, images = _run(_RATE, spec, str(side), str(batches), cache=cache)
                print(f"| {form} | {side} x {side} | {images / seconds:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True, type=pathlib.Path, help="made where absent")
    parser.add_argument("--images", type=int, default=coco_sized.IMAGES)
    parser.add_argument("--boxes", type=int, default=coco_sized.BOXES)
    parser.add_argument("--quality", type=int, default=90, help="of the JPEG")
    parser.add_argument("--records", action="store_true", help="TFRecord files too: 14 GB")
    parser.add_argument("--sides", default="512", help="of the canvas, separated by commas")
    parser.add_argument("--batches", type=int, default=32, help="to count images a second; 0: none")
    options = parser.parse_args()
    folder = options.folder
    json_spec = f"coco:{folder}/instances.json:{folder}/images"
    if not (folder / "instances.json").is_file():
        coco_sized.write(folder, options.images, options.boxes, options.quality)
    specs = {"COCO JSON": json_spec}
    if options.records:
        specs["TFRecord"] = f"tfrecord:{folder}/records/train-*.tfrecord"
        if not (folder / "records" / "train-labels.json").is_file():
            coco_sized.write_records(folder, json_spec, 64)
    print(f"{timing.machine()}; load {os.getloadavg()[0]:.1f}\n")
    _print_openings(specs, options.images)
    if options.batches:
        _print_rates(specs, [int(side) for side in options.sides.split(",")], options.batches)


if __name__ == "__main__":
    main()
