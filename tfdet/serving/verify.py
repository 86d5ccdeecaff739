"""Proof that an exported model returns what the model returned: run elsewhere, and compared."""

import dataclasses
import importlib.resources
import io
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tfdet.detectors.base import Detector
from tfdet.ops.letterbox import letterbox
from tfdet.serving import compare
from tfdet.serving.driver import Driver, ModelDriver
from tfdet.serving.effort_inputs import NOT_GIVEN

_TIMEOUT_SECONDS = 1800
# How far a score of an image may move by rounding: 1e-7 to 1e-6 were seen.
_ROUNDING = 5e-6
_FITTED = "serving_fitted/batch of 3"


def verify(
    model: Detector, path: str | pathlib.Path, library: str | pathlib.Path = ""
) -> compare.Difference:
    """Runs the signatures of the SavedModel at `path` in a new process and compares.

    The process imports TensorFlow and NumPy, not tfdet. Batches of one and of three images, empty
    and crowded scenes, odd sizes; a batch of encoded images has one size per image. A dynamic
    detector is run with the efforts 0 and 1, and at a threshold that parts the scores; a calibrated
    one also by efforts, each image of a batch with its own where it can. A `library` of native ops
    is loaded by the process first.
    """
    driver = ModelDriver(model)
    images, encoded = image_batches(driver.image_size), encoded_batches(driver.image_size)
    thresholds = thresholds_of(model, driver, images["batch of 3"])
    inputs: dict[str, np.ndarray] = {}
    for threshold in thresholds:
        for name, batch in images.items():
            inputs[f"serving_default/{_at(name, threshold)}"] = batch
        for name, files in encoded.items():
            for i, image in enumerate(files):
                key = f"serving_encoded/{_at(name, threshold)}/{i}"
                inputs[key] = np.frombuffer(_png(image), np.uint8)
        for name in {**images, **encoded} if threshold is not None else ():
            for signature in ("serving_default", "serving_encoded"):
                key = f"GIVEN/threshold/{signature}/{_at(name, threshold)}"
                inputs[key] = np.asarray(threshold, np.float32)
                if driver.calibration:
                    inputs[key.replace("threshold", "effort", 1)] = np.float32(NOT_GIVEN)
    # The third signature differs from the second in what comes before the network alone.
    efforts = _efforts(model, driver, thresholds)
    inputs |= _fitted_inputs(model, encoded["batch of 3"], thresholds[-1], efforts)
    outputs = _replay(path, library, inputs)
    total = _compare_metadata(driver, outputs)
    for threshold in thresholds:
        for name, batch in images.items():
            where = f"serving_default/{_at(name, threshold)}"
            expected = driver.detect(batch, threshold)
            total += compare.compare(expected, _batch(outputs, where), where.replace("/", ", "))
        for name, files in encoded.items():
            where = f"serving_encoded/{_at(name, threshold)}"
            singles = [driver.detect(image[None], threshold) for image in files]
            expected = {key: np.concatenate([x[key] for x in singles]) for key in singles[0]}
            total += compare.compare(expected, _batch(outputs, where), where.replace("/", ", "))
    # `expected` is of the last threshold's "batch of 3".
    if efforts is not None:
        at = np.broadcast_to(efforts, len(files)).tolist()
        pairs = zip(files, at, strict=True)
        singles = [driver.detect(image[None], effort=effort) for image, effort in pairs]
        expected = {key: np.concatenate([x[key] for x in singles]) for key in singles[0]}
    difference = compare.compare(expected, _batch(outputs, _FITTED), _FITTED.replace("/", ", "))
    return total + dataclasses.replace(difference, detections=0)  # the same ones again


def _fitted_inputs(
    model: Detector, images: list[np.ndarray], threshold: float | None, efforts: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The images fitted by us, with what else their signature takes."""
    pairs = [letterbox(image, model.image_size, model.pad_value) for image in images]
    given = {
        "scale": np.stack([scale for _, scale in pairs]),
        "size": np.array([image.shape[:2] for image in images], np.int32),
    }
    if threshold is not None:
        given["threshold"] = np.asarray(threshold, np.float32)
    if efforts is not None:  # which go before a threshold
        given["effort"] = efforts
    canvas = np.stack([canvas for canvas, _ in pairs])
    return {_FITTED: canvas, **{f"GIVEN/{name}/{_FITTED}": x for name, x in given.items()}}


def thresholds_of(model: Detector, driver: Driver, batch: np.ndarray) -> list[float | None]:
    """Thresholds to try: of both ends of effort, and one that parts the scores of `batch`.

    Of a static detector None alone.
    """
    if not model.is_dynamic:
        return [None]
    least, most = model.threshold_ends
    inner = _parting(driver.detect(batch, most)[model.score], min(least, most))
    return [least, most, *([] if inner is None else [inner])]


def _efforts(model: Detector, driver: Driver, thresholds: list[float | None]) -> np.ndarray | None:
    """The efforts of the thresholds for a batch of 3, or of the last one; None of others."""
    if driver.calibration is None:
        return None
    found = [driver.calibration.effort_at(x) for x in thresholds if x is not None]
    if not model.takes_threshold_per_image:
        return np.asarray(found[-1], np.float32)
    return np.resize(np.array(found, np.float32), 3)


def _parting(scores: np.ndarray, lowest: float) -> float | None:
    """A threshold with about half of the scores above it, far from each; None without a gap."""
    values = np.sort(scores[scores >= lowest], axis=None)
    middle = values[values.size // 4 : values.size - values.size // 4]
    values = middle if middle.size > 1 else values
    gaps = np.diff(values)
    # Where the scores are equal but for rounding, no threshold parts them.
    if gaps.max(initial=0.0) <= 2 * _ROUNDING:
        return None
    i = int(gaps.argmax())
    return float(values[i : i + 2].mean())


def _at(name: str, threshold: float | None) -> str:
    return name if threshold is None else f"{name} at {threshold:g}"


def image_batches(size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Batches of pictures of one size each, by name, for a canvas of `size`."""
    height, width = size[0] * 3 // 4 + 1, size[1] + 7
    return {
        "batch of 1": _empty_scene(height, width)[None],
        "batch of 3": np.stack([_crowded_scene(height, width, seed) for seed in range(3)]),
    }


def encoded_batches(size: tuple[int, int]) -> dict[str, list[np.ndarray]]:
    """As `image_batches`, each picture of a size of its own."""
    height, width = size
    return {
        "batch of 1": [_crowded_scene(height, width // 2 + 1, seed=3)],
        "batch of 3": [
            _crowded_scene(height // 2 + 1, width + 3, seed=4),
            _empty_scene(height + 5, width // 3 + 1),
            _crowded_scene(height * 2 - 1, width + 1, seed=5),
        ],
    }


def _empty_scene(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def _crowded_scene(height: int, width: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    picture = Image.new("RGB", (width, height), tuple(random.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(picture)
    shapes = (draw.ellipse, draw.rectangle)
    for i in range(60):
        center = random.uniform(0, 1, 2) * (width, height)
        half = random.uniform(0.02, 0.15, 2) * min(width, height)
        color = tuple(random.integers(0, 256, 3).tolist())
        shapes[i % 2]((*(center - half), *(center + half)), fill=color)
    return np.asarray(picture)


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _replay(
    path: str | pathlib.Path, library: str | pathlib.Path, inputs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    program = importlib.resources.files("tfdet.serving").joinpath("replay.py").read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        source, target = (str(pathlib.Path(folder, name)) for name in ("in.npz", "out.npz"))
        np.savez(source, **inputs)  # type: ignore[arg-type]  # no name of ours is an option
        places = [str(pathlib.Path(x).absolute()) for x in (path, library) if str(x)]
        # The text and not the file: Python would look for modules beside the file. The empty
        # folder: it would look for them in the current one.
        done = subprocess.run(
            [sys.executable, "-c", program, source, target, *places],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"the exported model does not run:\n{done.stderr[-4000:]}")
        return dict(np.load(target))


def _batch(outputs: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    prefix += "/"
    return {k.removeprefix(prefix): v for k, v in outputs.items() if k.startswith(prefix)}


def _compare_metadata(driver: Driver, outputs: dict[str, np.ndarray]) -> compare.Difference:
    found = _batch(outputs, "metadata")
    expected: dict[str, Any] = {
        "class_names": driver.class_names,
        "class_ids": driver.class_ids,
        "image_size": driver.image_size,
        "pad_value": tuple(np.asarray(driver.pad_value, np.float32).tolist()),
    }
    given: dict[str, Any] = {key: tuple(found[key].tolist()) for key in expected}
    if driver.threshold is not None:
        expected |= {"threshold": driver.threshold, "calibration": driver.calibration is not None}
        given["threshold"] = float(found["threshold"])
        given["calibration"] = bool(found["calibration"].item())
    if given == expected:
        return compare.Difference()
    return compare.Difference(mismatches=(f"metadata should be {expected}, got {given}",))
