"""Proof that an export in another form than the SavedModel returns what the model returned."""

import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tfdet.detectors.base import Detector
from tfdet.ops.letterbox import letterbox
from tfdet.serving import compare, verify
from tfdet.serving.driver import Driver, ModelDriver

_TIMEOUT_SECONDS = 1800
_PROGRAM = "tfdet.serving.replay_pieces"


class FittedBatch(NamedTuple):
    """Images as `Driver.detect_fitted` takes them."""

    canvas: np.ndarray
    scale: np.ndarray
    size: np.ndarray


def verify_pieces(
    model: Detector,
    path: pathlib.Path,
    is_exact: bool = True,
    photos: Iterable[FittedBatch] = (),
    has_scenes: bool = True,
) -> compare.Difference:
    """Runs the export at `path` by its driver in a new process and compares with the model.

    Batches of one and of three pictures, empty and crowded, of odd sizes, each of its own size, and
    the user's `photos`. A dynamic detector is run with the efforts 0 and 1, and at a threshold that
    parts the scores.

    Args:
        model: that was exported.
        path: folder of the export.
        is_exact: whether its numbers are float32: `compare.compare`, else `compare.closeness`.
        photos: batches of real images.
        has_scenes: False compares in the photos alone.
    """
    driver = ModelDriver(model)
    images = verify.image_batches(driver.image_size)
    thresholds = verify.thresholds_of(model, driver, images["batch of 3"])
    sizes = verify.encoded_batches(model.image_size)["batch of 3"]
    batches = {"batch of sizes": fitted(model, sizes)}
    if not has_scenes:
        images, batches = {}, {}
    batches |= {f"photos {i}": batch for i, batch in enumerate(photos)}
    cases, expected = {}, {}
    for threshold in thresholds:
        at = "" if threshold is None else f" at {threshold:g}"
        given = {} if threshold is None else {"threshold": np.asarray(threshold)}
        for name, batch in images.items():
            cases[name + at] = {"images": batch, **given}
            expected[name + at] = driver.detect(batch, threshold)
        for name, rows in batches.items():
            cases[name + at] = {**rows._asdict(), **given}
            expected[name + at] = driver.detect_fitted(*rows, threshold)
    found = _replay(path, cases)
    total = compare.Difference()
    for name, detections in expected.items():
        measure = compare.compare if is_exact else compare.closeness
        total += measure(detections, found[name], name)
    return total


def fitted(model: Detector, images: Sequence[np.ndarray]) -> FittedBatch:
    """Images, uint8 [H, W, 3] each of its own size, on the canvas of a model."""
    pairs = [letterbox(image, model.image_size, model.pad_value) for image in images]
    return FittedBatch(
        np.stack([canvas for canvas, _ in pairs]),
        np.stack([scale for _, scale in pairs]),
        np.array([image.shape[:2] for image in images], np.int32),
    )


def _replay(
    path: pathlib.Path, cases: dict[str, dict[str, np.ndarray]]
) -> dict[str, dict[str, np.ndarray]]:
    with tempfile.TemporaryDirectory() as folder:
        source, target = (str(pathlib.Path(folder, name)) for name in ("in.npz", "out.npz"))
        flat = {f"{name}/{key}": x for name, given in cases.items() for key, x in given.items()}
        np.savez(source, **flat)  # type: ignore[arg-type]  # no name of ours is an option
        done = subprocess.run(
            [sys.executable, "-m", _PROGRAM, source, target, str(path)],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"the exported model does not run:\n{done.stderr[-4000:]}")
        found: dict[str, dict[str, np.ndarray]] = {}
        for key, value in np.load(target).items():
            name, _, output = key.rpartition("/")
            found.setdefault(name, {})[output] = value
        return found


def driver_cases(driver: Driver, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a driver finds in the cases of `inputs`, CASE/images or CASE/canvas and the others.

    Returns:
        CASE/NAME of each output.
    """
    cases: dict[str, dict[str, np.ndarray]] = {}
    for key, value in inputs.items():
        name, _, argument = key.rpartition("/")
        cases.setdefault(name, {})[argument] = value
    outputs = {}
    for name, given in cases.items():
        at = float(given.pop("threshold")) if "threshold" in given else None
        if "images" in given:
            found = driver.detect(given["images"], at)
        else:
            found = driver.detect_fitted(*FittedBatch(**given), at)
        outputs.update({f"{name}/{key}": value for key, value in found.items()})
    return outputs
