"""One way to run a detector, whether it is a Keras model or an exported one."""

import json
import pathlib
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfdet import records
from tfdet.backbones.grid import SupernetConfig
from tfdet.detectors.calibration import Calibration
from tfdet.errors import UserError
from tfdet.ops import pack_native

# Where TensorFlow Serving's conventions put files that travel with a SavedModel.
LIBRARY_FOLDER = "assets.extra"


class Driver(Protocol):
    """Something that detects.

    Attributes:
        class_names: a name per label.
        class_ids: the data set's own id per label.
        image_size: (height, width) of the canvas that images are fitted into.
        knob: of a dynamic detector, its position; None of others.
        calibration: of a dynamic detector that has been calibrated, else None.
        grid: of a CADDet, what its routes lead through; None of others.
    """

    class_names: tuple[str, ...]
    class_ids: tuple[int, ...]
    image_size: tuple[int, int]
    knob: float | None
    calibration: Calibration | None
    grid: SupernetConfig | None

    def detect(self, images: np.ndarray, threshold: float | None = None) -> dict[str, np.ndarray]:
        """uint8 images [B, H, W, 3] of any size to detections, see `Detector`.

        `threshold` stands in for the knob.
        """


class ModelDriver:
    """Runs a `Detector`; one graph serves every image size."""

    def __init__(self, model: Any):
        self.class_names = tuple(model.class_names)
        self.class_ids = tuple(model.class_ids)
        self.image_size = tuple(model.image_size)
        self.knob = model.knob if model.has_knob else None
        self.calibration = model.calibration if model.has_knob else None
        self.grid = getattr(model.config, "supernet", None)
        specs = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
        if model.has_knob:
            specs.append(tf.TensorSpec([], tf.float32))
            self._detect = tf.function(
                lambda images, threshold: model.detect(images, threshold=threshold),
                input_signature=specs,
            )
        else:
            self._detect = tf.function(model.detect, input_signature=specs)

    def detect(self, images: np.ndarray, threshold: float | None = None) -> dict[str, np.ndarray]:
        knob = _chosen_knob(self, threshold)
        return _to_numpy(self._detect(tf.constant(images), *knob.values()))


class SavedModelDriver:
    """Runs what `tfdet.export` wrote.

    Args:
        path: folder of the SavedModel.
    """

    def __init__(self, path: str | pathlib.Path):
        if not (pathlib.Path(path) / "saved_model.pb").is_file():
            raise UserError(f"{path} is not a SavedModel: it has no saved_model.pb")
        library = pathlib.Path(path, LIBRARY_FOLDER, pack_native.LIBRARY)
        try:
            if library.is_file():
                pack_native.register(library)
            self._loaded = tf.saved_model.load(str(path))
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} cannot be loaded; export it again ({reason})") from None
        signatures = self._loaded.signatures
        if not {"serving_default", "metadata"} <= set(signatures):
            raise UserError(
                f"{path} was not written by tfdet-export: its signatures are {sorted(signatures)}"
            )
        self._detect = signatures["serving_default"]
        metadata = _to_numpy(signatures["metadata"]())
        self.class_names = tuple(name.decode() for name in metadata["class_names"])
        self.class_ids = tuple(metadata["class_ids"].tolist())
        self.image_size = tuple(metadata["image_size"].tolist())

        has_knob = "threshold" in metadata
        self.knob = float(metadata["threshold"]) if has_knob else None
        table = metadata["calibration"].decode() if has_knob else ""
        self.calibration = records.from_dict(Calibration, json.loads(table)) if table else None
        grid = metadata["grid"].decode() if "grid" in metadata else ""
        self.grid = records.from_dict(SupernetConfig, json.loads(grid)) if grid else None

    def detect(self, images: np.ndarray, threshold: float | None = None) -> dict[str, np.ndarray]:
        knob = _chosen_knob(self, threshold)
        return _to_numpy(self._detect(images=tf.constant(images), **knob))


def _chosen_knob(driver: Driver, threshold: float | None) -> dict[str, tf.Tensor]:
    if driver.knob is None:
        if threshold is not None:
            raise UserError("the model has no knob: it treats all images alike")
        return {}
    return {"threshold": tf.constant(driver.knob if threshold is None else threshold, tf.float32)}


def _to_numpy(tensors: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
