"""What tf.data's own tuning would give and cost the input pipeline; prints a Markdown table.

    python -m benchmarks.pipeline_tuning [--data=shapes:train:256] [--image_size=256,256]

`tfdet.data.pipeline.batched` switches it off. Both ways take turns on an otherwise idle machine: a
while of batches as fast as they come, and then the iterator is dropped, as at a training's end.
"""

import argparse
import gc
import statistics
import time

import tensorflow as tf

from tfdet.data import pipeline, sources

WARM_UP_SECONDS = 3


def measure(batches: tf.data.Dataset, seconds: float, rows: int) -> tuple[float, float]:
    """Images a second, and how many seconds the end of the iterator takes."""
    iterator = iter(batches)
    _take(iterator, WARM_UP_SECONDS)
    started = time.monotonic()
    count = _take(iterator, seconds)
    rate = rows * count / (time.monotonic() - started)
    started = time.monotonic()
    del iterator
    gc.collect()
    return rate, time.monotonic() - started


def _take(iterator, seconds: float) -> int:
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        next(iterator)
        count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="shapes:train:256", help="as of tfdet-train")
    parser.add_argument("--image_size", default="256,256", help="HEIGHT,WIDTH")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    size = tuple(int(x) for x in options.image_size.split(","))
    dataset = sources.open_dataset(options.data)
    found: dict[str, list[tuple[float, float]]] = {"off": [], "on": []}
    for _ in range(options.repeats):
        for tuning, runs in found.items():
            settings = tf.data.Options()
            settings.autotune.enabled = tuning == "on"
            batches = pipeline.train_batches(dataset, size, options.batch).with_options(settings)
            runs.append(measure(batches, options.seconds, options.batch))
    print("| tuning | images/s | end of the iterator, s: median | longest |\n|---|---|---|---|")
    for tuning, runs in found.items():
        rates, ends = zip(*runs, strict=True)
        middle = statistics.median(ends)
        print(f"| {tuning} | {statistics.median(rates):.0f} | {middle:.2f} | {max(ends):.2f} |")


if __name__ == "__main__":
    main()
