"""A detector to a SavedModel that takes pictures and returns detections."""

import contextlib
import dataclasses
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.data import sources
from tfdet.data.dataset import DetectionDataset
from tfdet.detectors import cost_measurement
from tfdet.detectors.base import Detector
from tfdet.detectors.calibration import Calibration
from tfdet.detectors.dynamic import Dynamic
from tfdet.errors import UserError
from tfdet.ops import pack_native
from tfdet.ops.as_written import as_written
from tfdet.serving import (
    compare,
    description,
    formats,
    photos,
    signatures,
    verify,
    verify_pieces,
    warm_up,
)
from tfdet.serving import network as networks
from tfdet.serving.description import Description
from tfdet.serving.driver import LIBRARY_FOLDER
from tfdet.serving.effort_inputs import EffortInputs
from tfdet.serving.piece_driver import PieceDriver
from tfdet.serving.pieces import pieces_of, takes_canvas

# Images that the ranges of int8 are chosen from, and that are compared.
_RANGE_IMAGES, _COMPARED_PHOTOS = 100, 8

# All that lies in an export, by its path.
_SINGLE_FILES = (".onnx", ".tflite", ".pb", ".h5", ".keras", ".pt", ".pth", ".xml", ".zip")
_WRITTEN = re.compile(
    r"saved_model\.pb|fingerprint\.pb|keras_metadata\.pb|assets|variables|"
    rf"variables/variables\.(index|data-\d+-of-\d+)|{LIBRARY_FOLDER}|"
    rf"{LIBRARY_FOLDER}/({re.escape(pack_native.LIBRARY)}|{re.escape(description.FILE)}|"
    rf"{warm_up.FILE})"
)
_WRITTEN_PIECES = re.compile(
    rf"{re.escape(description.FILE)}|(detector|network|decoding)\.(tflite|onnx|xml|bin)"
)


class NotTheSame(UserError, RuntimeError):
    """An export whose detections are not those of the model."""


def export(
    model: Detector,
    path: str | pathlib.Path,
    native_ops: bool = False,
    format: str = formats.SAVED_MODEL,
    precision: str = "float32",
    data: DetectionDataset | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> compare.Difference:
    """Writes `model` in a form that serves it, runs that in a new process and compares.

    Of the other formats see docs/export.md. A SavedModel needs TensorFlow alone: no tfdet, no
    custom ops, no variables. Its signatures are

    - `serving_default`: `images` uint8 [B, H, W, 3], any batch size (also 0) and image size;
    - `serving_encoded`: `encoded` string [B], JPEG, PNG, GIF, BMP or WebP, each of its own size;
      EXIF orientation is honoured, boxes are in pixels of the upright image. An image that cannot
      be decoded, or claims more than `limits.MAX_IMAGE_PIXELS`, has no detections, False in
      `is_readable` bool [B] and the reason in `status` int32 [B], see `serving.image_status`;
    - `serving_fitted`: `fitted` float32 [B, *image_size, 3], `scale` float32 [B] and `size` int32
      [B, 2] of images that the client has fitted as `ops.letterbox` does, each of its own size;
    - `metadata`: no input; `class_names` string [C], `class_ids` int64 [C], `image_size` int32 [2],
      `pad_value` float32 [3], the colour around fitted images.

    All serving signatures return what `model.predict` returns. Those of a dynamic detector also
    take the `threshold`, float32, whose default for TensorFlow Serving is the model's, and, where
    it is calibrated, the `effort`, float32, whose default of -1 leaves the choice to the threshold
    (a threshold of -1: to the model). Both are scalars; of a cascade also [B], one per image.
    Python's loader wants them given. The metadata has `threshold`, that default, and `calibration`,
    the table of `model.calibration` as JSON with times of the exported form, or "".

    The folder `assets.extra` has what `tfdet-inspect` shows, `detector.json`, and requests that
    TensorFlow Serving warms up with.

    Args:
        model: a `Detector`.
        path: folder to write; an earlier export there is replaced once the new one is proved.
        native_ops: use the native PackOp. The program that serves the file calls
            `tf.load_op_library` before it loads it; a copy of the library for this kind of machine
            lies in the folder, as `assets.extra/libtfdet_pack.so`.
        format: "saved_model", "litert", "onnx" or "openvino".
        precision: "float32", or what else the format has, see `formats.FORMS`.
        data: images like those that will be detected in; of them the ranges of int8 are chosen, and
            some are compared.
        recipe: of the training, by section; it travels with the export.

    Returns:
        The difference that was found, which in float32 is within the tolerances of
        `serving.compare`. In other precisions it is that of `compare.closeness`.

    Raises:
        UserError: if `path` is something else than an earlier export, or native ops were asked for
            and there are none.
        NotTheSame: if the detections of the exported model are not the model's; nothing is
        written.
    """
    if not isinstance(model, Detector):
        raise UserError(
            f"expected a detector, as tfdet.create returns it, got {type(model).__name__}"
        )
    path = pathlib.Path(path)
    check(format, precision, native_ops, data is not None)
    with _replacing_folder(path) as folder:
        write(model, folder, native_ops, format, precision, data, recipe)
        batches = [] if data is None else [photos.first_of(model, data, _COMPARED_PHOTOS)]
        if format == formats.SAVED_MODEL:
            library = folder / LIBRARY_FOLDER / pack_native.LIBRARY
            difference = verify.verify(model, folder, library if native_ops else "")
            if batches:
                difference += verify_pieces.verify_pieces(
                    model, folder, photos=batches, has_scenes=False
                )
        else:
            is_exact = precision == "float32"
            difference = verify_pieces.verify_pieces(model, folder, is_exact, batches)
        if difference.mismatches:
            raise NotTheSame(
                f"the exported model differs from the model: {difference.mismatches[0]}; nothing "
                "is written. Where all scores are nearly equal, as of a detector that was hardly "
                "trained, rounding can be the cause: train longer"
            )
    return difference


def write(
    model: Detector,
    folder: pathlib.Path,
    native_ops: bool = False,
    format: str = formats.SAVED_MODEL,
    precision: str = "float32",
    data: DetectionDataset | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> None:
    """As `export`, into a folder that is there and empty, and without the proof.

    For measurements of many forms; whatever is served should be proved.
    """
    if format != formats.SAVED_MODEL:
        _write_pieces(model, folder, formats.form(format), precision, data, recipe)
        return
    table = _save(model, folder, native_ops)
    if native_ops:
        _add_library(model, folder)
    _add_extras(model, folder, table, recipe)


def check(format: str, precision: str, native_ops: bool = False, has_data: bool = True) -> None:
    """Refuses, as a `UserError`, what cannot be written in this form, or not on this machine.

    Args:
        format, precision, native_ops: as in `export`.
        has_data: whether there are images to choose ranges from.
    """
    if format == formats.SAVED_MODEL:
        if precision != "float32":
            raise UserError(f"a SavedModel is written in float32 only, got {precision}")
        return
    formats.form(format).check(precision)
    if native_ops:
        raise UserError(f"native_ops are for SavedModels; {format} has no such operation")
    if precision == "int8" and not has_data:
        raise UserError(
            "int8 needs data: its ranges are chosen from images like those that will be detected in"
        )


def _write_pieces(
    model: Detector,
    folder: pathlib.Path,
    form: formats.Form,
    precision: str,
    data: DetectionDataset | None,
    recipe: Mapping[str, Any] | None,
) -> None:
    pieces = pieces_of(model, form, precision)
    canvases = photos.some_of(model, data, _RANGE_IMAGES) if precision == "int8" else []
    is_fitted = takes_canvas(model, form)
    name = "canvas" if is_fitted else "images"
    samples = [{name: canvas, **_threshold_of(model)} for canvas in canvases]
    for piece in pieces:
        form.write(piece, folder, precision, samples)
    names = tuple(piece.name for piece in pieces)
    about = Description.of(model, form.name, precision, is_fitted, names, recipe)
    about.write(folder)
    if model.is_dynamic and model.calibration:
        table = _with_latency(model, _canvas_function(model, PieceDriver(folder)))
        dataclasses.replace(about, calibration=table).write(folder)


def _canvas_function(model: Detector, driver: PieceDriver) -> Callable[..., Any]:
    one, size = np.ones(1, np.float32), np.array([model.image_size], np.int32)
    return lambda canvas, at: driver.detect_fitted(canvas.numpy(), one, size, float(at))


def _threshold_of(model: Detector) -> dict[str, np.ndarray]:
    """All of a dynamic detector is run to find its ranges."""
    if not model.is_dynamic:
        return {}
    return {"threshold": np.asarray(model.threshold_ends[1], np.float32)}


def _save(model: Detector, folder: pathlib.Path, native_ops: bool) -> Calibration | None:
    """Writes the SavedModel; the calibration that is in it."""
    model = model.for_inference()
    if native_ops:
        pack_native.check()
    with pack_native.allowed(native_ops):
        network = networks.frozen_network(model)
    canvas = signatures.Canvas(model.image_size, model.pad_value)
    table = _calibration(model, network) if model.is_dynamic else None
    efforts = EffortInputs.of(model, table) if model.is_dynamic else None
    tf.saved_model.save(
        tf.Module(),
        str(folder),
        signatures={
            "serving_default": signatures.images_function(network, canvas, efforts),
            "serving_encoded": signatures.encoded_function(network, canvas, efforts),
            "serving_fitted": signatures.fitted_function(network, canvas, efforts),
            "metadata": signatures.metadata_function(model, table),
        },
    )
    return table


def _add_library(model: Detector, folder: pathlib.Path) -> None:
    graph = (folder / "saved_model.pb").read_bytes()
    if pack_native.OP.encode() not in graph:
        raise UserError(f"{model.name} does not pack: there is no native op for it to use")
    target = folder / LIBRARY_FOLDER / pack_native.LIBRARY
    target.parent.mkdir(exist_ok=True)
    shutil.copy(pack_native.library_path(), target)


def _add_extras(
    model: Detector,
    folder: pathlib.Path,
    table: Calibration | None,
    recipe: Mapping[str, Any] | None,
) -> None:
    """What people and TensorFlow Serving look for beside a SavedModel."""
    extras = folder / LIBRARY_FOLDER
    extras.mkdir(exist_ok=True)
    about = Description.of(model, formats.SAVED_MODEL, "float32", False, recipe=recipe)
    dataclasses.replace(about, calibration=table).write(extras)
    warm_up.write(model, extras, is_calibrated=table is not None)


def _calibration(model: Dynamic, network: networks.Network) -> Calibration | None:
    """The model's table with the times of what is exported, which is faster than the model."""
    if model.calibration is None:
        return None
    run = tf.function(as_written(network)).get_concrete_function(
        tf.TensorSpec([1, *model.image_size, 3]), tf.TensorSpec([])
    )
    return _with_latency(model, run)


def _with_latency(model: Dynamic, run: Callable[..., Any]) -> Calibration:
    """The model's table with the times of `run(canvas, threshold)`."""
    assert model.calibration is not None
    # The images of the calibration are gone; these have something to find in them, too.
    samples = cost_measurement.sample_canvases(model, sources.open_dataset("shapes:val"))
    return model.calibration.with_latency(cost_measurement.least_and_most(model, run, samples))


@contextlib.contextmanager
def _replacing_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a new folder beside `path`, which becomes `path` when the block ends well."""
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    new, old = work / "new", work / "old"
    try:
        new.mkdir()
        yield new
        if path.exists():
            path.rename(old)
        new.rename(path)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(work)


def check_replaceable(path: str | pathlib.Path) -> None:
    """Refuses, as a `UserError`, a path with anything that no earlier export wrote.

    Names that end like a file of another format are refused too.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() in _SINGLE_FILES and not path.exists():
        raise UserError(
            f"an export is a folder; {path} is named like a file. Give a name without {path.suffix}"
        )
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    written = _WRITTEN
    if (path / description.FILE).is_file():
        Description.read(path)
        written = _WRITTEN_PIECES
    else:
        _check_saved_model(path)
    names = {x.relative_to(path).as_posix() for x in path.rglob("*")}
    others = [name for name in sorted(names) if not written.fullmatch(name)]
    if others:
        raise UserError(
            f"{path} also holds {others[0]}, which tfdet-export did not write; take it away, or "
            "give a folder that is not there"
        )


def _check_saved_model(path: pathlib.Path) -> None:
    graph = path / "saved_model.pb"
    if not graph.is_file():
        raise UserError(
            f"{path} exists and is not a SavedModel, nor another export; "
            "give a folder that is not there"
        )
    if not all(name in graph.read_bytes() for name in (b"serving_encoded", b"metadata")):
        raise UserError(
            f"{path} is a SavedModel of another program; give a folder that is not there"
        )
