"""Detectors in every exported format and precision that is installed: milliseconds of one image.

    python -m benchmarks.formats --exports_dir=exports --rounds=0     export, which takes long
    python -m benchmarks.formats --exports_dir=exports --json_out=benchmarks/figures/formats.json
    python -m benchmarks.formats --models efficientdet-lite0 --beside yolo11n=yolo11n.onnx@640

From the bytes of the pixels (uint8, of the network's own size) to detections, one image at a time,
by the driver of each format. Weights are random, so that times of the suppression of duplicates are
not those of a trained detector. All rows take turns within each round, so that they are measured in
the same minutes: ratios hold where the machine is shared, milliseconds do not. A dynamic detector
is measured with its least and its largest effort; NAME:unrouted is a cascade's two detectors
without its router, at the cost that effort 1 should have.

--beside puts files of other projects into the same rounds, as NAME=PATH@SIZE: an ONNX file (by ONNX
Runtime and OpenVINO) or the folder of a SavedModel whose `serving_default` takes images.

Prints a Markdown table: the least and the median, and the median of the ratios to the SavedModel of
the same detector in the same round (for --beside: to that of the first detector).
"""

import argparse
import dataclasses
import gc
import json
import pathlib
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

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
UNROUTED = ":unrouted"
# Images that ranges of int8 are chosen from; their values do not change times.
_RANGE_IMAGES = 8
# Between two runs: threads of some runtimes go on spinning after the last one.
_PAUSE = 0.02


@dataclasses.dataclass(frozen=True)
class Key:
    """What a row is of.

    Attributes:
        model, format, precision: what.
        effort: of a dynamic detector, 0 or 1; None of others.
    """

    model: str
    format: str
    precision: str
    effort: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured.

    Attributes:
        key: of what.
        ms: of an image, in each round.
        ratio: the median of the ratios to the SavedModel, each of one round.
        megabytes: of the files.
        problem: why it could not be measured; "" where it was.
    """

    key: Key
    ms: tuple[float, ...] = ()
    ratio: float = 0.0
    megabytes: float = 0.0
    problem: str = ""

    def line(self) -> str:
        key = self.key
        effort = "" if key.effort is None else f", effort {key.effort:g}"
        head = f"| {key.model}{effort} | {key.format} {key.precision} |"
        if self.problem:
            return f"{head} {self.problem} | | | |"
        numbers = (min(self.ms), statistics.median(self.ms), self.ratio, self.megabytes)
        return f"{head} {' | '.join(f'{x:.3g}' for x in numbers)} |"


Runs = dict[Key, Callable[[], Any]]


def variants(wanted: list[str] | None, with_int8: bool) -> Iterator[tuple[str, str]]:
    """Formats and precisions that are installed."""
    yield formats.SAVED_MODEL, "float32"
    for form in formats.FORMS.values():
        for precision in form.precisions if wanted is None or form.name in wanted else ():
            if form.is_installed(precision) and (with_int8 or precision != "int8"):
                yield form.name, precision


def prepare(
    name: str, folder: pathlib.Path, data: DetectionDataset, options: argparse.Namespace
) -> tuple[Runs, list[Row]]:
    """Exports a detector in all formats; what runs each of them, and what could not be."""
    model = _create(name)
    image = np.resize(decode.decode_image(data.encoded(0)), (1, *model.image_size, 3))
    thresholds: dict[float | None, float | None] = {None: None}
    if model.is_dynamic:
        efforts = (1.0,) if name.endswith(UNROUTED) else (0.0, 1.0)
        thresholds = {effort: model.threshold_ends[int(effort)] for effort in efforts}
    runs: Runs = {}
    problems: list[Row] = []
    for form, precision in variants(options.formats, name in options.int8_models):
        path = export_folder(folder, name, form, precision)
        problem = _export(model, path, form, precision, data)
        driver = None if problem or not options.rounds else open_exported(path)
        for effort, threshold in thresholds.items():
            key = Key(name, form, precision, effort)
            if problem:
                problems.append(Row(key, problem=problem))
            elif driver:
                runs[key] = _run(driver, image, threshold)
    return runs, problems


def _create(name: str) -> tfdet.Detector:
    name, mark, _ = name.partition(UNROUTED)
    model = tfdet.create(name, **MODELS.get(name, {}))
    return _without_router(model.for_inference()) if mark else model


def _without_router(cascade: Any) -> Any:
    """A cascade whose frozen form sends all images to the second detector, without a condition."""
    scout, _, late = cascade.stages

    def freeze(frozen: Callable[..., Any], canvas: Any, _: Any) -> Callable[..., Any]:
        network = frozen(lambda images: late(images, scout(images)[0]), canvas)

        def detect(images: tf.Tensor, _: Any) -> dict[str, tf.Tensor]:
            easiness = tf.zeros(tf.shape(images)[:1])
            found = {**network(images), "easiness": easiness, "is_hard": easiness < 1}
            return cascade.with_costs(found)

        return detect

    cascade.freeze = freeze
    return cascade


def export_folder(folder: pathlib.Path, name: str, form: str, precision: str) -> pathlib.Path:
    return folder / name / f"{form}_{precision}"


def _export(
    model: tfdet.Detector, path: pathlib.Path, form: str, precision: str, data: DetectionDataset
) -> str:
    """Exports unless that was done before; returns why it cannot be, "" where it can."""
    problem, begun = path.with_name(path.name + ".problem"), path.with_name(path.name + ".begun")
    if path.is_dir() or problem.is_file():
        return problem.read_text() if problem.is_file() else ""
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir(parents=True)
    try:
        export.write(model, begun, format=form, precision=precision, data=data)
    except UserError as error:
        problem.write_text(str(error).partition("\n")[0][:100])
        return problem.read_text()
    begun.rename(path)
    return ""


def _run(driver: Driver, image: np.ndarray, threshold: float | None) -> Callable[[], Any]:
    return lambda: driver.detect(image, threshold)


def beside(entry: str) -> tuple[Runs, dict[Key, float]]:
    """What runs a file of another project, NAME=PATH@SIZE, and its size in MB."""
    name, _, place = entry.partition("=")
    path, _, size = place.rpartition("@")
    if not (name and path and size.isdigit()):
        raise SystemExit(f"expected NAME=PATH@SIZE, got {entry!r}")
    runs = _onnx(name, path, int(size)) if path.endswith(".onnx") else _saved(name, path, int(size))
    return runs, dict.fromkeys(runs, _megabytes(pathlib.Path(path)))


def _saved(name: str, path: str, size: int) -> Runs:
    loaded = tf.saved_model.load(path)
    function = loaded.signatures["serving_default"]
    ((argument, spec),) = function.structured_input_signature[1].items()
    image = tf.zeros((1, size, size, 3), spec.dtype)
    # `loaded` is held, since the function does not hold its variables.
    return {
        Key(name, "saved_model", "float32"): lambda loaded=loaded: function(**{argument: image})
    }


def _onnx(name: str, path: str, size: int) -> Runs:
    """By ONNX Runtime, and by OpenVINO in float32 and bfloat16."""
    import onnxruntime
    import openvino

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (argument,) = session.get_inputs()
    image = np.zeros((1, 3, size, size), np.float32)
    runs: Runs = {Key(name, "onnx", "float32"): lambda: session.run(None, {argument.name: image})}
    core = openvino.Core()
    for precision, hint in (("float32", "f32"), ("bfloat16", "bf16")):
        settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(core.read_model(path), "CPU", settings)
        runs[Key(name, "openvino", precision)] = lambda compiled=compiled: compiled([image])
    return runs


def _megabytes(path: pathlib.Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return round(sum(x.stat().st_size for x in files if x.is_file()) / 1e6, 2)


def measure(runs: Runs, sizes: Mapping[Key, float], rounds: int) -> list[Row]:
    """Times all runs in turns."""
    seconds = timing.paired(runs, rounds, _PAUSE)
    rows = []
    for key, own in seconds.items():
        plain = dataclasses.replace(key, format=formats.SAVED_MODEL, precision="float32")
        base = seconds[plain] if plain in seconds else next(iter(seconds.values()))
        ratio = statistics.median(x / y for x, y in zip(own, base, strict=True))
        milliseconds = tuple(round(1e3 * x, 2) for x in own)
        rows.append(Row(key, milliseconds, round(ratio, 4), sizes[key]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--formats", nargs="+", choices=list(formats.FORMS))
    parser.add_argument(
        "--int8_models",
        nargs="*",
        default=["efficientdet-d0", "efficientdet-lite0"],
        help="with int8 too, whose ranges take many minutes for a large network",
    )
    parser.add_argument("--beside", nargs="+", default=[], metavar="NAME=PATH@SIZE")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--exports_dir", type=pathlib.Path, help="keeps exports for a next time")
    parser.add_argument("--json_out", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = _rows(options.exports_dir or pathlib.Path(scratch), options)
    print("| model | format | least ms | median ms | ratio to SavedModel | MB |")
    print("|---|---|---|---|---|---|")
    print("\n".join(row.line() for row in rows))
    if options.json_out:
        facts = {"machine": timing.machine(), "rows": [dataclasses.asdict(row) for row in rows]}
        options.json_out.write_text(json.dumps(facts, indent=1) + "\n")


def _rows(folder: pathlib.Path, options: argparse.Namespace) -> list[Row]:
    data = sources.open_dataset("shapes:val").select(range(_RANGE_IMAGES))
    runs: Runs = {}
    sizes: dict[Key, float] = {}
    problems: list[Row] = []
    for name in options.models:
        print(f"{name}: exports", flush=True)
        own, failed = prepare(name, folder, data, options)
        runs |= own
        problems += failed
        paths = {key: export_folder(folder, name, key.format, key.precision) for key in own}
        sizes |= {key: _megabytes(path) for key, path in paths.items()}
        gc.collect()
    for entry in options.beside if options.rounds else ():
        own, its_sizes = beside(entry)
        runs |= own
        sizes |= its_sizes
    if not options.rounds:
        return problems
    print(f"timing {len(runs)} rows in turns, {options.rounds} rounds", flush=True)
    return [*measure(runs, sizes, options.rounds), *problems]


if __name__ == "__main__":
    main()
