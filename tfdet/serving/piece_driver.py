"""Runs an export in another form than the SavedModel."""

import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.detectors.base import to_original
from tfdet.errors import UserError
from tfdet.ops.letterbox import letterbox
from tfdet.serving import driver, formats
from tfdet.serving.description import Description


class PieceDriver:
    """Runs what `tfdet.export` wrote for LiteRT, ONNX Runtime or OpenVINO; a `driver.Driver`.

    Args:
        path: folder of the export.
    """

    batch_size: int | None = None

    def __init__(self, path: str | pathlib.Path):
        self._path = pathlib.Path(path)
        about = Description.read(path)
        self.description = about
        self._form = formats.form(about.format)
        self.class_names = about.class_names
        self.class_ids = about.class_ids
        self.image_size = about.image_size
        self.threshold = about.threshold
        self.calibration = about.calibration
        self.route_map = about.grid
        self.pad_value: tuple[float, float, float] | None = about.pad_value
        self._runners = [self._load(name) for name in about.pieces]

    def _load(self, name: str) -> formats.Runner:
        try:
            return self._form.load(name, self._path, self.description.precision)
        except UserError:
            raise
        except Exception as error:  # each runtime has its own
            reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
            raise UserError(f"{self._path} cannot be loaded; export it again ({reason})") from None

    def detect(
        self, images: np.ndarray, threshold: float | None = None, effort: float | None = None
    ) -> dict[str, np.ndarray]:
        at = self._at(threshold, effort)
        if not self.description.takes_canvas and len(images):
            return self._run(len(images), images=images.astype(np.float32), **at)
        with tf.device("CPU:0"):
            canvas, scale = letterbox(
                tf.constant(images), self.image_size, self.description.pad_value
            )
        size = np.full((len(images), 2), images.shape[1:3], np.int32)
        return self._fitted(canvas.numpy(), np.full(len(images), scale, np.float32), size, at)

    def detect_fitted(
        self,
        canvas: np.ndarray,
        scale: np.ndarray,
        size: np.ndarray,
        threshold: float | None = None,
    ) -> dict[str, np.ndarray]:
        at = self._at(threshold, None)
        return self._fitted(canvas, scale, size, at)

    def _at(self, threshold: float | None, effort: float | None) -> dict[str, np.ndarray]:
        given = driver.chosen(self, threshold, effort)
        return {name: np.asarray(x, np.float32) for name, x in given.items()}

    def _fitted(
        self, canvas: np.ndarray, scale: np.ndarray, size: np.ndarray, at: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        if not len(canvas):  # a row of zeros, which is taken away again
            blank = np.zeros((1, *canvas.shape[1:]), np.float32)
            found = self._fitted(blank, np.ones(1, np.float32), np.ones((1, 2), np.int32), at)
            return {name: values[:0] for name, values in found.items()}
        if self.description.takes_canvas:
            rows = [self._run(1, canvas=row[None], **at) for row in canvas]
            found = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        else:  # an image of the canvas's size is left as it is
            found = self._run(len(canvas), images=canvas, **at)
        moved = to_original(found, scale, (size[:, 0], size[:, 1]))
        return {name: np.asarray(values) for name, values in moved.items()}

    def _run(self, count: int, **inputs: Any) -> dict[str, np.ndarray]:
        """Detections in `count` images, of the pieces; each of those finds its inputs by name."""
        values = inputs
        for run in self._runners:
            values = run(values)
        found = {name: np.asarray(x) for name, x in values.items()}
        driver.check_detections(self._path, found, count, len(self.class_names))
        return found
