"""One way to run a detector, whether it is a Keras model or an exported one."""

import json
import pathlib
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfdet import records
from tfdet.backbones.grid import SupernetConfig
from tfdet.detectors.base import Detector
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
        threshold: of a dynamic detector, its own threshold; None of others.
        calibration: of a dynamic detector that has been calibrated, else None.
        route_map: of a CADDet, what its routes lead through; None of others.
    """

    class_names: tuple[str, ...]
    class_ids: tuple[int, ...]
    image_size: tuple[int, int]
    threshold: float | None
    calibration: Calibration | None
    route_map: SupernetConfig | None

    def detect(
        self, images: np.ndarray, threshold: float | None = None, effort: float | None = None
    ) -> dict[str, np.ndarray]:
        """uint8 images [B, H, W, 3] of any size to detections, see `Detector`.

        `threshold`, or the `effort` that the calibration has one for, replaces that of the model.
        """


class ModelDriver:
    """Runs a `Detector`; one graph serves every image size."""

    def __init__(self, model: Detector):
        self.class_names = tuple(model.class_names)
        self.class_ids = tuple(model.class_ids)
        self.image_size = model.image_size
        self.threshold = model.threshold if model.is_dynamic else None
        self.calibration = model.calibration if model.is_dynamic else None
        self.route_map = model.route_map
        specs = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
        if model.is_dynamic:
            specs.append(tf.TensorSpec([], tf.float32))
            self._detect = tf.function(
                lambda images, threshold: model.detect(images, threshold=threshold),
                input_signature=specs,
            )
        else:
            self._detect = tf.function(model.detect, input_signature=specs)

    def detect(
        self, images: np.ndarray, threshold: float | None = None, effort: float | None = None
    ) -> dict[str, np.ndarray]:
        chosen = _chosen(self, threshold, effort)
        return _to_numpy(self._detect(tf.constant(images), *chosen.values()))


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
        metadata: dict[str, Any] = _to_numpy(signatures["metadata"]())
        self.class_names = tuple(name.decode() for name in metadata["class_names"])
        self.class_ids = tuple(metadata["class_ids"].tolist())
        height, width = metadata["image_size"].tolist()
        self.image_size = (height, width)
        self.threshold, table = None, ""
        if "threshold" in metadata:  # of a dynamic detector
            self.threshold = float(metadata["threshold"])
            table = metadata["calibration"].decode()
        self.calibration = records.from_dict(Calibration, json.loads(table)) if table else None
        grid = metadata["grid"].decode() if "grid" in metadata else ""
        self.route_map = records.from_dict(SupernetConfig, json.loads(grid)) if grid else None

    def detect(
        self, images: np.ndarray, threshold: float | None = None, effort: float | None = None
    ) -> dict[str, np.ndarray]:
        chosen = _chosen(self, threshold, effort)
        return _to_numpy(self._detect(images=tf.constant(images), **chosen))


def threshold_for(driver: Driver, **target: float) -> float:
    """The threshold of a dynamic detector for an effort or a target, by its calibration."""
    if driver.calibration is None:
        raise UserError(
            f"{next(iter(target))} needs a calibration: run `tfdet-eval --calibrate` with this "
            "model (and export it again)"
        )
    return driver.calibration.threshold_for(**target)


def _chosen(driver: Driver, threshold: float | None, effort: float | None) -> dict[str, tf.Tensor]:
    if driver.threshold is None:
        if threshold is not None or effort is not None:
            raise UserError("the model is static: it takes neither a threshold nor an effort")
        return {}
    if effort is not None:
        threshold = threshold_for(driver, effort=effort)
    if threshold is None:
        threshold = driver.threshold
    return {"threshold": tf.constant(threshold, tf.float32)}


def _to_numpy(tensors: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
