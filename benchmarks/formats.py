"""Detectors in every exported format and precision that is installed: milliseconds of one image.

    python -m benchmarks.formats --json_out=benchmarks/figures/formats.json
    python -m benchmarks.formats --models=efficientdet-lite0 --rounds=5

From the bytes of the pixels (uint8, of the network's own size) to detections, one image at a time,
by the driver of each format. Weights are random, so that times of the suppression of duplicates are
not those of a trained detector. The formats of a model take turns within each round, so that all of
them are measured in the same minutes: the ratios hold where the machine is shared, the milliseconds
do not. A dynamic detector is measured with its least and its largest effort. Prints a Markdown
table: the least and the median, and the median of the ratios to the SavedModel of the same round.
"""

import argparse
import dataclasses
import gc
import json
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tfdet
from benchmarks import timing
from tfdet.data import decode, sources
from tfdet.data.dataset import DetectionDataset
from tfdet.errors import UserError
from tfdet.serving import export, formats
from tfdet.serving.driver import Driver
from tfdet.serving.exported import open_exported

MODELS: dict[str, dict[str, Any]] = {
    "efficientdet-d0": {},
    "efficientdet-lite0": {},
    "yolov7": {},
    "retinanet-r50": {"image_size": (640, 640)},
    "dy-yolov7": {},
}
# Images that ranges of int8 are chosen from; their values do not change times.
_RANGE_IMAGES = 8


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of a model in a format.

    Attributes:
        model, format, precision: what.
        effort: of a dynamic detector, 0 or 1; None of others.
        image_size: (height, width).
        least_ms, median_ms: of an image.
        ratio: the median of the ratios to the SavedModel, each of one round.
        megabytes: of the export.
        problem: why it could not be measured; "" where it was.
    """

    model: str
    format: str
    precision: str
    effort: float | None
    image_size: tuple[int, int]
    least_ms: float = 0.0
    median_ms: float = 0.0
    ratio: float = 0.0
    megabytes: float = 0.0
    problem: str = ""

    def line(self) -> str:
        effort = "" if self.effort is None else f", effort {self.effort:g}"
        head = f"| {self.model}{effort} | {self.format} {self.precision} |"
        if self.problem:
            return f"{head} {self.problem} | | | |"
        numbers = (self.least_ms, self.median_ms, self.ratio, self.megabytes)
        return f"{head} {' | '.join(f'{x:.3g}' for x in numbers)} |"


def variants(wanted: list[str] | None) -> Iterator[tuple[str, str]]:
    """Formats and precisions that are installed."""
    yield formats.SAVED_MODEL, "float32"
    for form in formats.FORMS.values():
        for precision in form.precisions:
            if form.is_installed(precision) and (wanted is None or form.name in wanted):
                yield form.name, precision


def measure(
    name: str, folder: pathlib.Path, data: DetectionDataset, options: argparse.Namespace
) -> list[Row]:
    """Rows of one model in all formats."""
    model = tfdet.create(name, **MODELS.get(name, {}))
    size, efforts = model.image_size, [None]
    thresholds: dict[float | None, float | None] = {None: None}
    if model.is_dynamic:
        efforts = [0.0, 1.0]
        thresholds = dict(zip(efforts, model.threshold_ends, strict=True))
    rows: dict[tuple[str, str], list[Row]] = {}
    drivers: dict[tuple[str, str], Driver] = {}
    for form, precision in variants(options.formats):
        path = folder / name / f"{form}_{precision}"
        path.mkdir(parents=True)
        rows[form, precision] = [Row(name, form, precision, x, size) for x in efforts]
        try:
            export.write(model, path, format=form, precision=precision, data=data)
            drivers[form, precision] = open_exported(path)
        except UserError as error:
            problem = str(error).partition("\n")[0][:100]
            rows[form, precision] = [
                dataclasses.replace(row, problem=problem) for row in rows[form, precision]
            ]
    del model
    gc.collect()
    image = decode.decode_image(data.encoded(0))
    image = np.resize(image, (1, *size, 3))
    runs: dict[Any, Callable[[], Any]] = {
        (key, effort): _run(driver, image, thresholds[effort])
        for effort in efforts
        for key, driver in drivers.items()
    }
    seconds = timing.paired(runs, options.rounds)
    plain = (formats.SAVED_MODEL, "float32")
    for key in drivers:
        path = folder / name / "_".join(key)
        size_mb = sum(x.stat().st_size for x in path.rglob("*") if x.is_file()) / 1e6
        rows[key] = [
            _measured(row, seconds[key, row.effort], seconds[plain, row.effort], size_mb)
            for row in rows[key]
        ]
    return [row for found in rows.values() for row in found]


def _run(driver: Driver, image: np.ndarray, threshold: float | None) -> Callable[[], Any]:
    return lambda: driver.detect(image, threshold)


def _measured(row: Row, seconds: list[float], plain: list[float], megabytes: float) -> Row:
    ratios = [x / y for x, y in zip(seconds, plain, strict=True)]
    return dataclasses.replace(
        row,
        least_ms=round(1e3 * min(seconds), 3),
        median_ms=round(1e3 * statistics.median(seconds), 3),
        ratio=round(statistics.median(ratios), 4),
        megabytes=round(megabytes, 2),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--formats", nargs="+", choices=list(formats.FORMS))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json_out", type=pathlib.Path)
    options = parser.parse_args()
    data = sources.open_dataset("shapes:val").select(range(_RANGE_IMAGES))
    rows: list[Row] = []
    print("| model | format | least ms | median ms | ratio to SavedModel | MB |")
    print("|---|---|---|---|---|---|")
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(name, pathlib.Path(folder), data, options)
        rows += found
        for row in found:
            print(row.line(), flush=True)
        if options.json_out:  # after each model, since the next one may take long
            facts = {
                "machine": timing.machine(),
                "rounds": options.rounds,
                "rows": [dataclasses.asdict(row) for row in rows],
            }
            options.json_out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
