"""One way to run a detector, whether it is a Keras model or an exported one."""

import json
import pathlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfdet import records
from tfdet.backbones.grid import SupernetConfig
from tfdet.detectors.base import Detector, to_original
from tfdet.detectors.calibration import Calibration
from tfdet.errors import UserError
from tfdet.ops import pack_native
from tfdet.ops.as_written import as_written
from tfdet.serving.effort_inputs import NOT_GIVEN

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
        pad_value: the colour around images on their canvas; None of an export of an earlier
            version, which cannot `detect_fitted`.
        batch_size: how many images each step has in an export of a fixed size; None of others.
    """

    class_names: tuple[str, ...]
    class_ids: tuple[int, ...]
    image_size: tuple[int, int]
    threshold: float | None
    calibration: Calibration | None
    route_map: SupernetConfig | None
    pad_value: tuple[float, float, float] | None
    batch_size: int | None

    def detect(
        self, images: np.ndarray, threshold: float | None = None, effort: float | None = None
    ) -> dict[str, np.ndarray]:
        """uint8 images [B, H, W, 3] of any size to detections, see `Detector`.

        `threshold`, or the `effort` that the calibration has one for, replaces that of the model.
        """

    def detect_fitted(
        self,
        canvas: np.ndarray,
        scale: np.ndarray,
        size: np.ndarray,
        threshold: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Images that `ops.letterbox` has fitted to detections in pixels of the images.

        Args:
            canvas: float32 [B, *image_size, 3].
            scale: float32 [B], canvas pixels per image pixel.
            size: int32 [B, 2], (height, width) of each image.
            threshold: as in `detect`.
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
        self.pad_value: tuple[float, float, float] | None = model.pad_value
        self.batch_size: int | None = None
        images = tf.TensorSpec([None, None, None, 3], tf.uint8)
        canvas = tf.TensorSpec([None, *model.image_size, 3], tf.float32)
        places = (tf.TensorSpec([None], tf.float32), tf.TensorSpec([None, 2], tf.int32))
        at = {"threshold": tf.TensorSpec([], tf.float32)} if model.is_dynamic else {}
        self._detect = _graph(model.detect, images, **at)
        self._detect_fitted = _graph(_fitted_detection(model), canvas, *places, **at)

    def detect(
        self, images: np.ndarray, threshold: float | None = None, effort: float | None = None
    ) -> dict[str, np.ndarray]:
        at = chosen(self, threshold, effort)
        return _to_numpy(self._detect(tf.constant(images), *at.values()))

    def detect_fitted(
        self,
        canvas: np.ndarray,
        scale: np.ndarray,
        size: np.ndarray,
        threshold: float | None = None,
    ) -> dict[str, np.ndarray]:
        at = chosen(self, threshold, None)
        inputs = (tf.constant(x) for x in (canvas, scale, size))
        return _to_numpy(self._detect_fitted(*inputs, *at.values()))


def _fitted_detection(model: Detector) -> Callable[..., dict[str, tf.Tensor]]:
    def detect(
        canvas: tf.Tensor, scale: tf.Tensor, size: tf.Tensor, **at: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        return to_original(model.detect_fitted(canvas, **at), scale, (size[:, 0], size[:, 1]))

    return detect


def _graph(
    detect: Callable[..., dict[str, tf.Tensor]], *specs: tf.TensorSpec, **options: tf.TensorSpec
) -> Callable[..., dict[str, tf.Tensor]]:
    """`detect(*tensors, **options)` as one graph, made when it is first called.

    It takes the options behind the tensors, in their order here.
    """

    def run(*given: tf.Tensor) -> dict[str, tf.Tensor]:
        named = zip(options, given[len(specs) :], strict=True)
        return detect(*given[: len(specs)], **dict(named))

    return tf.function(as_written(run), input_signature=[*specs, *options.values()])


# What TensorFlow raises on damaged files, by where the damage is.
_OF_DAMAGE = (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError)


class SavedModelDriver:
    """Runs what `tfdet.export` wrote.

    Args:
        path: folder of the SavedModel.
    """

    def __init__(self, path: str | pathlib.Path):
        graph = pathlib.Path(path) / "saved_model.pb"
        if not graph.is_file():
            raise UserError(f"{path} is not a SavedModel: {_what_it_is(pathlib.Path(path))}")
        if pack_native.OP.encode() in graph.read_bytes():
            _load_op(path)
        try:
            self._loaded = tf.saved_model.load(str(path))
        except (*_OF_DAMAGE, tf.errors.OpError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"{path} cannot be loaded; export it again ({reason})") from None
        self._path = path
        self._detect, metadata = _signatures(path, self._loaded.signatures)
        self._detect_fitted = self._loaded.signatures.get("serving_fitted")
        has_fitted = self._detect_fitted is not None and "pad_value" in metadata
        self.pad_value = tuple(metadata["pad_value"].tolist()) if has_fitted else None
        self.batch_size = self._detect.structured_input_signature[1]["images"].shape[0]
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
        at = chosen(self, threshold, effort)
        missing = max(0, (self.batch_size or 0) - len(images))
        blank = np.zeros((missing, *images.shape[1:]), images.dtype)
        found = self._run(self._detect, images=np.concatenate([images, blank]), **at)
        return {name: values[: len(images)] for name, values in found.items()}

    def detect_fitted(
        self,
        canvas: np.ndarray,
        scale: np.ndarray,
        size: np.ndarray,
        threshold: float | None = None,
    ) -> dict[str, np.ndarray]:
        return self._run_fitted(canvas, scale, size, chosen(self, threshold, None))

    def detect_at_efforts(
        self, canvas: np.ndarray, scale: np.ndarray, size: np.ndarray, efforts: np.ndarray
    ) -> dict[str, np.ndarray]:
        """As `detect_fitted`, with an effort for each image, float32 [B].

        Only where `takes_efforts`: of calibrated cascades.
        """
        return self._run_fitted(canvas, scale, size, {"effort": tf.constant(efforts, tf.float32)})

    @property
    def takes_efforts(self) -> bool:
        """Whether the images of a batch may have efforts of their own."""
        inputs = self._detect.structured_input_signature[1]
        return "effort" in inputs and inputs["effort"].shape.rank is None

    def _run_fitted(
        self, canvas: np.ndarray, scale: np.ndarray, size: np.ndarray, at: dict[str, tf.Tensor]
    ) -> dict[str, np.ndarray]:
        if self.pad_value is None:
            raise UserError(f"{self._path} takes no fitted images; export it again")
        return self._run(self._detect_fitted, fitted=canvas, scale=scale, size=size, **at)

    def _run(self, function: Any, **inputs: Any) -> dict[str, np.ndarray]:
        # Python's loader wants all inputs; what is not chosen is left to the others.
        unchosen = {
            name: tf.constant(NOT_GIVEN)
            for name in ("threshold", "effort")
            if name in function.structured_input_signature[1]
        }
        tensors = unchosen | {name: tf.convert_to_tensor(x) for name, x in inputs.items()}
        try:
            found = _to_numpy(function(**tensors))
        except (tf.errors.InvalidArgumentError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"{self._path} cannot detect in such images ({reason})") from None
        images = len(next(iter(inputs.values())))
        check_detections(self._path, found, images, len(self.class_names))
        return found


def _what_it_is(path: pathlib.Path) -> str:
    """What a folder is that is no SavedModel, with what to give in its place."""
    if path.is_file():
        return f"it is a file; give its folder, {path.parent}"
    versions = sorted(graph.parent for graph in path.glob("*/saved_model.pb"))
    if versions:
        return f"it has no saved_model.pb itself; give one of those in it, such as {versions[-1]}"
    if (path / "recipe.yaml").is_file():
        return "it is a training folder; give it as --model_dir, or export it with tfdet-export"
    return "it has no saved_model.pb" if path.is_dir() else "there is no such folder"


def _load_op(path: str | pathlib.Path) -> None:
    try:
        pack_native.check()
    except UserError as error:
        raise UserError(
            f"{path} was exported with native ops, and tfdet's own library of them cannot be used: "
            f"{error}; or export the model without native ops; or, if you trust whoever made it, "
            f"set TFDET_PACK_LIBRARY={pathlib.Path(path, LIBRARY_FOLDER, pack_native.LIBRARY)}"
        ) from None


# What `export` writes, by the kind of the values and the number of their axes.
_METADATA = {"class_names": ("O", 1), "class_ids": ("i", 1), "image_size": ("i", 1)}
_DETECTIONS = {"boxes": ("f", 3), "scores": ("f", 2), "labels": ("i", 2), "count": ("i", 1)}


def _signatures(path: str | pathlib.Path, signatures: Any) -> tuple[Any, dict[str, Any]]:
    """What detects, and the metadata, of a SavedModel that `export` wrote; others are refused."""
    refusal = f"{path} was not written by tfdet-export"
    if not {"serving_default", "metadata"} <= set(signatures):
        raise UserError(f"{refusal}: its signatures are {sorted(signatures)}")
    detect = signatures["serving_default"]
    inputs = set(detect.structured_input_signature[1])
    if not {"images"} <= inputs <= {"images", "threshold", "effort"}:
        raise UserError(f"{refusal}: it takes {sorted(inputs)} instead of images")
    try:
        metadata = _to_numpy(signatures["metadata"]())
    except (TypeError, tf.errors.OpError):
        raise UserError(f"{refusal}: its metadata cannot be read") from None
    wrong = _wrong_values(metadata, _METADATA)
    if not wrong and metadata["image_size"].shape != (2,):
        wrong = "image_size"
    if not wrong and len(metadata["class_names"]) != len(metadata["class_ids"]):
        wrong = "class_ids"
    if wrong:
        raise UserError(f"{refusal}: its metadata has no {wrong}, or of another form")
    return detect, metadata


def check_detections(
    path: str | pathlib.Path, found: dict[str, np.ndarray], images: int, classes: int
) -> None:
    """Refuses what no model of tfdet gives, such as labels that have no name."""
    wrong = _wrong_values(found, _DETECTIONS)
    if wrong:
        raise UserError(f"{path} was not written by tfdet-export: it returns no {wrong}")
    rows = found["scores"].shape
    is_whole = (
        rows[0] == images == len(found["count"])
        and (found["boxes"].shape, found["labels"].shape) == ((*rows, 4), rows)
        and 0 <= found["count"].min(initial=0) <= found["count"].max(initial=0) <= rows[1]
    )
    if not is_whole:
        raise UserError(f"{path} was not written by tfdet-export: its detections do not fit")
    used = np.arange(rows[1]) < found["count"][:, None]
    labels, boxes = found["labels"][used], found["boxes"][used]
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise UserError(
            f"{path} returns labels {labels.min()} to {labels.max()}, but has {classes} class "
            "names; export the model again"
        )
    if not np.isfinite(boxes).all():
        raise UserError(f"{path} returns boxes that are no numbers; its weights are damaged")


def _wrong_values(values: dict[str, Any], forms: dict[str, tuple[str, int]]) -> str:
    """The first name that is missing or has values of another form; "" for none."""
    for name, (kind, axes) in forms.items():
        array = np.asarray(values.get(name))
        if (array.dtype.kind, array.ndim) != (kind, axes):
            return name
    return ""


def threshold_for(driver: Driver, **target: float) -> float:
    """The threshold of a dynamic detector for an effort or a target, by its calibration."""
    if driver.calibration is None:
        raise UserError(
            f"{next(iter(target))} needs a calibration: run `tfdet-eval --calibrate` with this "
            "model (and export it again)"
        )
    return driver.calibration.threshold_for(**target)


def chosen(driver: Driver, threshold: float | None, effort: float | None) -> dict[str, tf.Tensor]:
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
