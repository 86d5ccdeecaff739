"""How near a calibrated detector comes to target costs and latencies on images it has not seen.

    python -m benchmarks.calibration_targets --model_dir=runs/dynamic --images=500 \\
        --json_out=benchmarks/figures/calibration_targets.json

Half of the data calibrates, the other half is the held-out split. Ten target costs and ten target
latencies lie evenly between the least and the most. The cost of a target follows from the scores of
the held-out images by the rule of the router. That the detector then reports the same mean of
`macs` is checked at one target. Its latency is measured one image at a time on images of the
held-out split. The latencies of the least and the largest effort, which the calibration is made of,
are measured in the same rounds, so that a machine whose speed drifts slows all of them alike.
"""

import argparse
import json
import pathlib
import time
from typing import Any

import numpy as np

from benchmarks import timing
from tfdet.data import pipeline, sources
from tfdet.detectors.calibration import Calibration, mixed, share_at
from tfdet.serving.driver import ModelDriver
from tfdet.training import trained

TARGETS = 10


def _batches(driver: ModelDriver, data: Any, size: int) -> list[tuple[np.ndarray, ...]]:
    """Fitted images, as `Driver.detect_fitted` takes them."""
    batches = pipeline.eval_batches(data, driver.image_size, size, driver.pad_value)
    return [(x, y["scale"], y["size"]) for x, y in batches.as_numpy_iterator()]


def _reported(
    driver: ModelDriver, batches: list[tuple[np.ndarray, ...]], threshold: float, name: str
) -> np.ndarray:
    """What the detector reports under `name` about each image."""
    return np.concatenate([driver.detect_fitted(*x, threshold)[name] for x in batches])


def costs(
    driver: ModelDriver, table: Calibration, held_out: list, score: str
) -> list[dict[str, float]]:
    """A row for each target cost."""
    scores = _reported(driver, held_out, table.thresholds[-1], score)
    ends = (table.macs[0], table.macs[-1])
    rows = []
    for target in np.linspace(*ends, TARGETS):
        threshold = table.threshold_for(target_madds=float(target))
        found = float(mixed(ends, share_at(scores, threshold)))
        rows.append({"target": float(target), "found": found, "error": found / target - 1})
    middle = rows[TARGETS // 2]
    threshold = table.threshold_for(target_madds=middle["target"])
    reported = float(_reported(driver, held_out, threshold, "macs").mean(dtype=np.float64))
    if not np.isclose(reported, middle["found"], rtol=1e-4):
        raise SystemExit(f"the detector reports {reported}, its scores come to {middle['found']}")
    return rows


def latencies(
    driver: ModelDriver, table: Calibration, images: list, rounds: int
) -> list[dict[str, float]]:
    """A row for each target latency, of the means over `images`.

    Args:
        driver: what detects.
        table: for its shares; its times are replaced by those measured here.
        images: batches of one.
        rounds: how often each image is run for each target; the least time counts.
    """
    ends = (table.thresholds[0], table.thresholds[-1])
    efforts = np.linspace(0, 1, TARGETS)
    thresholds = [*ends, *(table.threshold_for(effort=float(x)) for x in efforts)]
    seconds = np.full((len(thresholds), len(images)), np.inf)
    for threshold in ends:
        driver.detect_fitted(*images[0], threshold)  # builds the graph
    for _ in range(rounds):
        for i, image in enumerate(images):
            for j, threshold in enumerate(thresholds):
                start = time.perf_counter()
                driver.detect_fitted(*image, threshold)
                seconds[j, i] = min(seconds[j, i], time.perf_counter() - start)
    ms = 1e3 * seconds.mean(axis=1)
    own = table.with_latency((float(ms[0]), float(ms[1])))
    rows = []
    for effort, found in zip(efforts, ms[2:], strict=True):
        target = float(np.interp(effort, (0, 1), own.target_range("target_latency_ms")))
        rows.append({"target": target, "found": float(found), "error": float(found) / target - 1})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model_dir", required=True, help="of a trained cascade")
    parser.add_argument("--data", default="shapes:val:1000")
    parser.add_argument("--images", type=int, default=500, help="that calibrate")
    parser.add_argument("--timed_images", type=int, default=60, help="0: costs alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json_out", type=pathlib.Path)
    options = parser.parse_args()
    data = sources.open_dataset(options.data)
    if len(data) < 2 * options.images:
        raise SystemExit(f"{options.data} has {len(data)} images; {2 * options.images} are needed")
    model = trained.load_trained(options.model_dir)
    driver = ModelDriver(model)
    most = model.threshold_ends[1]
    calibrating = _batches(driver, data.select(range(options.images)), 8)
    held_out = _batches(driver, data.select(range(options.images, 2 * options.images)), 8)
    scores = _reported(driver, calibrating, most, model.score)
    ends = tuple(
        float(_reported(driver, calibrating[:1], x, "macs").mean()) for x in model.threshold_ends
    )
    table = Calibration.from_scores(scores, ends)
    found = {"macs": costs(driver, table, held_out, model.score)}
    singles = [
        tuple(x[i : i + 1] for x in batch) for batch in held_out for i in range(len(batch[0]))
    ][: options.timed_images]
    if singles:
        found["latency_ms"] = latencies(driver, table, singles, options.rounds)
    print("| target | meant | found | error |\n|---|---|---|---|")
    for name, rows in found.items():
        for row in rows:
            numbers = f"{row['target']:.5g} | {row['found']:.5g} | {100 * row['error']:+.1f} %"
            print(f"| {name} | {numbers} |")
        worst = max(abs(row["error"]) for row in rows)
        print(f"largest error of {name}: {100 * worst:.1f} %", flush=True)
    if options.json_out:
        facts = {
            "machine": timing.machine(),
            "model": model.name,
            "data": options.data,
            "images": options.images,
            "timed_images": len(singles),
            **found,
        }
        options.json_out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
