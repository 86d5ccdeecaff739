"""A detector in every form that this machine can write: size, time, precision, differences."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tfdet.data.dataset import DetectionDataset
from tfdet.detectors.base import Detector
from tfdet.errors import UserError
from tfdet.serving import export, formats, measure
from tfdet.serving.driver import Driver
from tfdet.serving.exported import open_exported

# The forms take turns, so that all are measured in the same minutes; the least time of each counts.
_ROUNDS, _WARM_UPS = 12, 2
_BATCHES = (1, 8)


@dataclasses.dataclass(frozen=True)
class Compared:
    """An export and what was measured of it.

    Attributes:
        format, precision: see `formats.Form`.
        problem: why there is none of it; "" where there is, else all below is 0.
        megabytes: of its files.
        ms: least milliseconds of a batch of `_BATCHES` images, bytes to detections.
        ap: COCO's AP on the data, 0 to 1.
        box, score: largest differences from the model's detections, pixels and probability.
        lost: detections of the model, with a score of 0.3 or more, that it does not have.
    """

    format: str
    precision: str
    problem: str = ""
    megabytes: float = 0.0
    ms: tuple[float, ...] = (0.0,) * len(_BATCHES)
    ap: float = 0.0
    box: float = 0.0
    score: float = 0.0
    lost: int = 0

    @property
    def name(self) -> str:
        return f"{self.format} {self.precision}"


def compare_formats(
    model: Detector,
    folder: pathlib.Path,
    dataset: DetectionDataset,
    report: Callable[[str], None] = lambda line: None,
) -> list[Compared]:
    """Exports a detector to `folder` in each form, one folder each, and measures all of them.

    Args:
        model: what is exported.
        folder: new or empty.
        dataset: images to measure in, and to choose ranges of int8 from.
        report: called with a line before each step.
    """
    rows: list[Compared] = []
    drivers: dict[str, Driver] = {}
    for name, precision in _variants():
        report(f"exporting {name} in {precision} ...")
        path = folder / f"{name}_{precision}"
        try:
            found = export.export(model, path, format=name, precision=precision, data=dataset)
            drivers[f"{name} {precision}"] = open_exported(path)
        except (UserError, RuntimeError) as error:
            rows.append(Compared(name, precision, problem=str(error).partition("\n")[0]))
            continue
        rows.append(
            Compared(
                name,
                precision,
                megabytes=sum(x.stat().st_size for x in path.rglob("*") if x.is_file()) / 1e6,
                box=found.box,
                score=found.score,
                lost=found.lost,
            )
        )
    report("measuring times ...")
    times = _times(drivers, dataset)
    for i, row in enumerate(rows):
        if row.name in drivers:
            report(f"measuring AP of {row.name} ...")
            ap = measure.average_precision(drivers[row.name], dataset)
            rows[i] = dataclasses.replace(row, ap=ap, ms=times[row.name])
    return rows


def _variants() -> Iterator[tuple[str, str]]:
    yield formats.SAVED_MODEL, "float32"
    for form in formats.FORMS.values():
        for precision in form.precisions:
            yield form.name, precision


def _times(drivers: dict[str, Driver], dataset: DetectionDataset) -> dict[str, tuple[float, ...]]:
    """Milliseconds of each driver by batch size."""
    from tfdet.data import decode

    image = decode.decode_image(dataset.encoded(0))
    found: dict[str, list[float]] = {name: [] for name in drivers}
    for size in _BATCHES:
        images = np.stack([image] * size)
        seconds: dict[str, list[float]] = {name: [] for name in drivers}
        for _ in range(_WARM_UPS + _ROUNDS):
            for name, driver in drivers.items():
                started = time.perf_counter()
                driver.detect(images)
                seconds[name].append(time.perf_counter() - started)
        for name, all_of_it in seconds.items():
            found[name].append(1000 * min(all_of_it[_WARM_UPS:]))
    return {name: tuple(values) for name, values in found.items()}


def fastest(rows: Sequence[Compared], most_loss: float) -> Compared | None:
    """The row with the least time of one image among those that are precise enough.

    Args:
        rows: of `compare_formats`.
        most_loss: AP, 0 to 1, that it may have less than the SavedModel, or than the best row where
            there is no SavedModel.
    """
    measured = [row for row in rows if not row.problem]
    if not measured:
        return None
    plain = [row.ap for row in measured if row.format == formats.SAVED_MODEL]
    wanted = (plain[0] if plain else max(row.ap for row in measured)) - most_loss
    return min((row for row in measured if row.ap >= wanted), key=lambda row: row.ms[0])


def format_table(rows: Sequence[Compared]) -> str:
    """The rows as a table for people."""
    heads = (
        "format",
        "MB",
        *(f"ms of {size}" for size in _BATCHES),
        "AP",
        "pixels",
        "score",
        "lost",
    )
    lines = [f"{heads[0]:<20}" + "".join(f"{head:>10}" for head in heads[1:])]
    for row in rows:
        if row.problem:
            lines.append(f"{row.name:<20}  {row.problem}")
            continue
        values = (row.megabytes, *row.ms, 100 * row.ap)
        lines.append(
            f"{row.name:<20}"
            + "".join(f"{value:>10.1f}" for value in values)
            + f"{row.box:>10.2g}{row.score:>10.2g}{row.lost:>10}"
        )
    return "\n".join(lines)
