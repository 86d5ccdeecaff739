"""Detections to average precision, by the rules of COCO.

The numbers come from faster-coco-eval: those of pycocotools, the reference, several times faster.
pycocotools takes its place where it is not installed. Every image of the data set counts, also one
without detections; crowd boxes are neither hits nor misses. Images that cannot be read are left
out.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from tfdet import memory
from tfdet.behind import Behind
from tfdet.data.dataset import DetectionDataset
from tfdet.detectors.base import Detector
from tfdet.detectors.dynamic import reported
from tfdet.errors import UserError
from tfdet.evaluation import sharing
from tfdet.ops import masks as mask_ops
from tfdet.tensors import Tensor

METRICS = {
    "AP": "IoU 0.50:0.95, all sizes",
    "AP50": "IoU 0.50, all sizes",
    "AP75": "IoU 0.75, all sizes",
    "APs": "IoU 0.50:0.95, small (area < 32²)",
    "APm": "IoU 0.50:0.95, medium",
    "APl": "IoU 0.50:0.95, large (area > 96²)",
    "ARmax1": "1 detection per image",
    "ARmax10": "10 detections per image",
    "ARmax100": "100 detections per image",
    "ARs": "100 detections, small",
    "ARm": "100 detections, medium",
    "ARl": "100 detections, large",
}

# The numbers of masks have the same names behind this.
MASK = "mask/"

_COLUMNS = ("image", "boxes", "scores", "labels")


class CocoEvaluator:
    """Collects the detections of a data set's images and computes the COCO numbers.

    Args:
        dataset: `tfdet.data.dataset.DetectionDataset` with the ground truth.
        backend: "pycocotools" or "faster-coco-eval"; None takes the faster one that is installed.
    """

    def __init__(self, dataset: DetectionDataset, backend: str | None = None):
        self._dataset = dataset
        self._backend = backend or _best_backend()
        self._seen: set[int] = set()
        self._left_out: set[int] = set()
        # Arrays, not dicts: half a million detections then take megabytes and not gigabytes.
        self._image: list[np.ndarray] = []
        self._boxes: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._has_masks = False
        self._masks: list[dict[str, Any]] = []  # run lengths

    def add(self, index: Sequence[int] | np.ndarray, detections: Mapping[str, Any]) -> None:
        """Adds a batch.

        Args:
            index: position in the data set of each image, [B].
            detections: "boxes" [B, N, 4] xyxy in pixels of the original images, "scores" [B, N],
                "labels" [B, N] of the data set, "count" [B]; rows from count on are ignored, and
                so are rows with label -1. "masks" [B, N, h, w], probabilities in the frames of the
                boxes, are measured where the data set has outlines.
        """
        boxes, scores, labels, count = (
            np.asarray(detections[key]) for key in ("boxes", "scores", "labels", "count")
        )
        self._has_masks = "masks" in detections and self._dataset.outlines is not None
        for row, image in enumerate(int(i) for i in index):
            if image in self._seen:
                raise ValueError(f"image {image} of {self._dataset.name} was added twice")
            self._seen.add(image)
            keep = np.flatnonzero(labels[row, : count[row]] >= 0)
            self._image.append(np.full(len(keep), image, np.int64))
            self._boxes.append(boxes[row, keep].astype(np.float64))
            self._scores.append(scores[row, keep].astype(np.float64))
            self._labels.append(labels[row, keep].astype(np.int64))
            if self._has_masks:
                masks = np.asarray(detections["masks"])[row, keep]
                self._masks += self._runs(image, masks, boxes[row, keep])

    def share(self) -> dict[str, np.ndarray]:
        """All that was added as arrays, for `take` of another process."""
        runs = [one["counts"] for one in self._masks]
        return {
            "seen": np.array(sorted(self._seen), np.int64),
            **dict(zip(_COLUMNS, self.columns(), strict=True)),
            "mask_sizes": np.array([one["size"] for one in self._masks], np.int64).reshape(-1, 2),
            "mask_bytes": np.array([len(counts) for counts in runs], np.int64),
            "masks": np.frombuffer(b"".join(runs), np.uint8),
            "has_masks": np.array([self._has_masks]),
        }

    def take(self, shares: Mapping[str, np.ndarray]) -> None:
        """Has what the `share` of this and of other processes has, in the order of the images.

        Args:
            shares: of all of them, concatenated.
        """
        self._seen = set(shares["seen"].tolist())
        self._has_masks = bool(shares["has_masks"].any())
        order = np.argsort(shares["image"], kind="stable")
        columns = ([shares[name][order]] for name in _COLUMNS)
        self._image, self._boxes, self._scores, self._labels = columns
        ends = np.cumsum(shares["mask_bytes"])
        content, sizes = shares["masks"].tobytes(), shares["mask_sizes"].tolist()
        counts = [content[end - n : end] for end, n in zip(ends, shares["mask_bytes"], strict=True)]
        masks = [{"size": x, "counts": y} for x, y in zip(sizes, counts, strict=True)]
        self._masks = [masks[i] for i in order] if masks else []

    @property
    def seen(self) -> set[int]:
        """Positions of the images that were added."""
        return set(self._seen)

    @property
    def dataset(self) -> DetectionDataset:
        """The data set with the ground truth."""
        return self._dataset

    @property
    def left_out(self) -> set[int]:
        """Positions of the images that could not be read."""
        return set(self._left_out)

    @property
    def masks(self) -> list[dict[str, Any]] | None:
        """The run lengths of all detections, in the order of `columns`; None without masks."""
        return list(self._masks) if self._has_masks else None

    def columns(self) -> list[np.ndarray]:
        """Image [D], boxes [D, 4], scores [D] and labels [D] of all detections."""
        empty = (np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
        lists = (self._image, self._boxes, self._scores, self._labels)
        return [np.concatenate([x, *own]) for x, own in zip(empty, lists, strict=True)]

    def leave_out(self, index: Iterable[int]) -> None:
        """Takes images, by position, out of the measurement: those that cannot be read."""
        self._left_out.update(int(i) for i in index)

    def result(self) -> dict[str, float]:
        """The twelve COCO numbers (`METRICS`) and "AP/<class>" for each class.

        0–1; -1 where the data set has no ground truth of that size or class. Where masks were
        added, all of it once more for them, as "mask/AP" and so on.
        """
        metrics = self._measured("bbox")
        if self._has_masks:
            of_masks = self._measured("segm")
            metrics |= {MASK + name: value for name, value in of_masks.items()}
        return metrics

    def _measured(self, kind: str) -> dict[str, float]:
        truth, found = self._ground_truth(), self._found()
        if kind == "segm":
            self._add_masks(truth, found)
        labels = list(range(len(self._dataset.class_names)))
        images = [i for i in range(len(self._dataset)) if i not in self._left_out]
        sizes = {i: self._size(i) if kind == "segm" else (0, 0) for i in images}
        stats, precision = _BACKENDS[self._backend](truth, found, sizes, labels, kind)
        metrics = dict(zip(METRICS, map(float, stats), strict=True))
        for label, name in enumerate(self._dataset.class_names):
            values = precision[:, :, label, 0, -1]
            values = values[values > -1]
            metrics[f"AP/{name}"] = float(values.mean()) if values.size else -1.0
        return metrics

    @property
    def num_left_out(self) -> int:
        """How many images could not be read."""
        return len(self._left_out)

    def detections(self) -> list[dict[str, Any]]:
        """The detections as the COCO server takes them: original image and category ids, xywh."""
        image_ids, class_ids = self._dataset.image_ids, self._dataset.class_ids
        rows = [
            {
                "image_id": _plain(image_ids[row["image_id"]]),
                "category_id": _plain(class_ids[row["category_id"]]),
                "bbox": [round(value, 2) for value in row["bbox"]],
                "score": round(row["score"], 5),
            }
            for row in self._found()
        ]
        for row, runs in zip(rows, self._masks, strict=False):
            row["segmentation"] = {**runs, "counts": runs["counts"].decode("ascii")}
        return rows

    def _size(self, image: int) -> tuple[int, int]:
        height, width = (int(x) for x in self._dataset.sizes[image])
        return height, width

    def _runs(self, image: int, masks: np.ndarray, boxes: np.ndarray) -> list[dict[str, Any]]:
        from pycocotools import mask as coco_masks

        pairs = zip(masks, boxes, strict=True)
        pasted = (mask_ops.paste(mask, box, self._size(image)) for mask, box in pairs)
        return [coco_masks.encode(np.asfortranarray(x.astype(np.uint8))) for x in pasted]

    def _add_masks(self, truth: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
        from pycocotools import mask as coco_masks

        for row, annotation in enumerate(truth):
            size = self._size(annotation["image_id"])
            annotation["segmentation"] = runs_of_object(self._dataset, row, size)
        for detection, runs in zip(found, self._masks, strict=True):
            detection.update(segmentation=runs, area=float(coco_masks.area(runs)))

    def _ground_truth(self) -> list[dict[str, Any]]:
        data = self._dataset
        image = np.repeat(np.arange(len(data)), np.diff(data.box_offsets))
        rows = _rows(image, data.boxes, data.labels)
        for row, area, is_crowd in zip(rows, data.areas, data.is_crowd, strict=True):
            row.update(area=float(area), iscrowd=int(is_crowd), ignore=int(is_crowd))
        return rows

    def _found(self) -> list[dict[str, Any]]:
        image, boxes, scores, labels = self.columns()
        rows = _rows(image, boxes, labels)
        for row, score in zip(rows, scores, strict=True):
            row.update(score=float(score), area=row["bbox"][2] * row["bbox"][3], iscrowd=0)
        return rows


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What a measurement came to.

    Attributes:
        evaluator: filled.
        metrics: its result.
        routes: as `Evaluation.routes`.
    """

    evaluator: CocoEvaluator
    metrics: dict[str, float]
    routes: dict[str, np.ndarray]


class Evaluation:
    """Measures one detector on one data set, as often as wanted, with one compiled function.

    Args:
        model: a `Detector`; its weights at the time of `run` are the ones measured.
        dataset: `DetectionDataset`; boxes of classes that the model does not know are left out,
            counted in `dataset.problems` and named in a warning.
        batch_size: images per step, at most all there are; the last batch may be smaller.
        share_with: the processes and devices that share the work; all of them call `run`.

    Attributes:
        dataset: as given, with the classes of the model.
        costs: of a dynamic detector, after `run`: mean "macs", and the "share" of hard images of a
            cascade.
        routes: after `run`: "index" [N], the positions of the images in the data set, and what a
            dynamic detector reports about each: "macs" [N] and more, see `detectors.dynamic`.
    """

    def __init__(
        self,
        model: Detector,
        dataset: DetectionDataset,
        batch_size: int = 8,
        share_with: sharing.Sharing = sharing.ALONE,
    ):
        if batch_size < 1:
            raise UserError(f"the evaluation's batch size must be at least 1, got {batch_size}")
        if not len(dataset):
            raise UserError(f"data set {dataset.name} has no images to evaluate on")
        from tfdet.data import loader

        dataset = known_classes(model, dataset)
        loader.check_usable(dataset)
        self._label_map = label_map(model, dataset)
        self._model = model
        self.dataset = dataset
        self._batch_size = min(batch_size, len(dataset))
        self._sharing = share_with
        self._detect = share_with.on_replicas(*_detection(model))
        self.costs: dict[str, float] = {}
        self.routes: dict[str, np.ndarray] = {}

    def run(self, progress: Callable[[int, int], None] | None = None) -> CocoEvaluator:
        """The filled `CocoEvaluator`; `progress(done, total)` is called after each batch."""
        self._sharing.prepare(self._model)
        evaluator = CocoEvaluator(self.dataset)
        reports = self._run_own(evaluator, progress)
        count = self._sharing.shard[1]
        if count > 1:
            evaluator.take(sharing.gathered(self._sharing, evaluator.share()))
            reports = sharing.gathered(self._sharing, reports)
        evaluator.leave_out(set(range(len(self.dataset))) - evaluator.seen)
        if reports:
            order = np.argsort(reports["index"], kind="stable")
            reports = {key: values[order] for key, values in reports.items()}
        self.routes = reports
        means = {"share": "is_hard", "macs": "macs"}
        self.costs = {
            name: float(self.routes[key].mean())
            for name, key in means.items()
            if key in self.routes
        }
        return evaluator

    def _run_own(
        self, evaluator: CocoEvaluator, progress: Callable[[int, int], None] | None
    ) -> dict[str, np.ndarray]:
        """Adds what is found in this process's batches; returns what is reported about them."""
        from tfdet.data import pipeline

        reports: list[dict[str, np.ndarray]] = []
        batches = pipeline.eval_batches(
            self.dataset,
            self._model.image_size,
            self._batch_size,
            self._model.pad_value,
            shard=self._sharing.shard,
        )
        done, total = 0, len(self.dataset)
        # Masks are turned into run lengths while the network looks at the next images.
        with Behind[None](threads=1, most=2) as behind:
            for group in sharing.groups(batches, self._sharing.replicas):
                inputs = [(images, t["scale"], t["size"]) for images, t in group]
                for (_, targets), found in zip(group, self._detect_all(inputs), strict=True):
                    index = np.asarray(targets["index"])
                    found = {key: np.asarray(value) for key, value in found.items()}
                    reports.append({"index": index, **reported(found)})
                    labels = found["labels"]
                    found["labels"] = np.where(labels >= 0, self._label_map[labels], -1)
                    behind.put(evaluator.add, index, found)
                    done += len(index)
                if progress:  # the others are as far
                    progress(min(done * self._sharing.shard[1], total), total)
            behind.finish()
        names = reports[0] if reports else ()
        return {key: np.concatenate([part[key] for part in reports]) for key in names}

    def _detect_all(self, batches: list[Any]) -> list[dict[str, Any]]:
        """What is found in some batches of images with their scales and sizes."""
        try:
            return self._detect(batches)
        except Exception as error:
            if not memory.is_exhausted(error):
                raise
        first = [np.asarray(x)[:1] for x in batches[0]]

        def attempt(size: int) -> None:
            self._detect([[np.repeat(x, size, axis=0) for x in first]])

        fits = memory.largest_that_fits(attempt, self._batch_size)
        way = f"{fits} do: take that as batch size" if fits else "nor does one: take smaller images"
        height, width = self._model.image_size
        raise UserError(
            f"{self._batch_size} images of {height}x{width} in a batch do not fit into memory; "
            f"{way} (--batch_size of tfdet-eval, eval.batch_size and model.image_size of a recipe)"
        )


def evaluate(
    model: Detector,
    dataset: DetectionDataset,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """The COCO numbers of `model` on `dataset`, see `CocoEvaluator.result`.

    Something that measures again and again keeps an `Evaluation`, which compiles only once.
    """
    if not isinstance(dataset, DetectionDataset):
        raise UserError(
            f"expected a data set, as tfdet.open_dataset returns it, got {type(dataset).__name__}"
        )
    return Evaluation(model, dataset, batch_size).run(progress).result()


def known_classes(model: Detector, dataset: DetectionDataset) -> DetectionDataset:
    """The data set with its own order and ids of those classes that the model has."""
    names = model.config.class_names
    unknown = [name for name in dataset.class_names if names and name not in names]
    pairs = zip(dataset.class_names, dataset.class_ids, strict=True)
    known = [pair for pair in pairs if pair[0] not in unknown]
    if not unknown or not known:  # none at all: `label_map` refuses it
        return dataset
    logging.warning(
        "%s: boxes of classes that the model does not know are left out: %s",
        dataset.name,
        _shorten(unknown),
    )
    return dataset.with_classes(*zip(*known, strict=True))


def label_map(model: Detector, dataset: DetectionDataset) -> np.ndarray:
    """For each label of the model the data set's label, int64 [num_classes]; -1: not in the data.

    Classes are matched by name, so that a model of many classes can be measured on some of them.
    A model without names must have as many classes as the data set.
    """
    names = model.config.class_names
    if not names:
        if model.num_classes != len(dataset.class_names):
            raise UserError(
                f"the model has {model.num_classes} classes without names, data set "
                f"{dataset.name} has {len(dataset.class_names)}; use a model made for this data"
            )
        return np.arange(model.num_classes)
    missing = [name for name in dataset.class_names if name not in names]
    if missing:
        raise UserError(
            f"class {missing[0]!r} of data set {dataset.name} is not among the model's "
            f"{len(names)} classes ({_shorten(names)}); use a model made for this data"
        )
    position = {name: label for label, name in enumerate(dataset.class_names)}
    return np.asarray([position.get(name, -1) for name in names])


def format_table(metrics: Mapping[str, float]) -> str:
    """The numbers as a table for people, in percent; "-" where there is no ground truth."""
    lines = [f"{name:<9} {_percent(metrics[name])}  {note}" for name, note in METRICS.items()]
    classes = [name for name in metrics if name.startswith("AP/")]
    width = max((len(name) - 3 for name in classes), default=0)
    lines += ["", "AP of each class"] if classes else []
    lines += [f"{name[3:]:<{width}} {_percent(metrics[name])}" for name in classes]
    of_masks = {k.removeprefix(MASK): v for k, v in metrics.items() if k.startswith(MASK)}
    if of_masks:
        lines += ["", "Masks", *format_table(of_masks).splitlines()]
    return "\n".join(lines)


def runs_of_object(dataset: DetectionDataset, row: int, size: tuple[int, int]) -> dict[str, Any]:
    """The mask of an object of a data set with outlines, as run lengths.

    An object without an outline of its own is its box.

    Args:
        dataset: the data set.
        row: of the object in it.
        size: (height, width) of the image.
    """
    from pycocotools import mask as coco_masks

    assert dataset.outlines is not None, "such data alone has masks"
    runs = dataset.outlines.runs(row, size)
    if runs is None:
        left, top, right, bottom = dataset.boxes[row].astype(np.float64).tolist()
        corners = [left, top, right, top, right, bottom, left, bottom]
        runs = coco_masks.frPyObjects([corners], *size)[0]
    return runs


def _detection(model: Detector) -> tuple[Callable[..., dict[str, Any]], list[Any]]:
    """Images on their canvas, scales and sizes to detections, and the specs of these tensors."""
    import tensorflow as tf

    from tfdet.detectors.base import to_original

    def detect(images: Tensor, scale: Tensor, size: Tensor) -> dict[str, Tensor]:
        return to_original(model.detect_fitted(images), scale, (size[:, 0], size[:, 1]))

    return detect, [
        tf.TensorSpec([None, *model.image_size, 3], tf.float32),
        tf.TensorSpec([None], tf.float32),
        tf.TensorSpec([None, 2], tf.int32),
    ]


def filled(array: Any, batch_size: int) -> np.ndarray:
    """The array with rows of ones up to `batch_size`."""
    array = np.asarray(array)
    missing = batch_size - len(array)
    if not missing:
        return array
    # Ones: a fill image of scale 0 or size 0 would divide by zero.
    return np.concatenate([array, np.ones((missing, *array.shape[1:]), array.dtype)])


def _rows(image: np.ndarray, boxes_xyxy: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    boxes_xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
    columns = zip(image.tolist(), labels.tolist(), boxes_xywh, strict=True)
    return [
        # Ids from 1: COCOeval takes a match with the annotation of id 0 for no match.
        {"id": i, "image_id": image_id, "category_id": label, "bbox": box}
        for i, (image_id, label, box) in enumerate(columns, 1)
    ]


def _pycocotools(
    truth: list, found: list, sizes: dict, labels: list, kind: str
) -> tuple[Any, np.ndarray]:
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            _index(COCO, truth, sizes, labels), _index(COCO, found, sizes, labels), kind
        )
        return _accumulate(evaluation)


def _faster_coco_eval(
    truth: list, found: list, sizes: dict, labels: list, kind: str
) -> tuple[Any, np.ndarray]:
    from faster_coco_eval import COCO, COCOeval_faster

    evaluation = COCOeval_faster(
        _index(COCO, truth, sizes, labels), _index(COCO, found, sizes, labels), kind
    )
    return _accumulate(evaluation)


def _index(coco_class: Any, rows: list, sizes: dict, labels: list) -> Any:
    # Not loadRes: it fails on an empty list and hides images that have no detection.
    coco = coco_class()
    coco.dataset = {
        "images": [{"id": i, "height": h, "width": w} for i, (h, w) in sizes.items()],
        "categories": [{"id": i, "name": str(i)} for i in labels],
        "annotations": rows,
    }
    coco.createIndex()
    return coco


def _accumulate(evaluation: Any) -> tuple[Any, np.ndarray]:
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[: len(METRICS)], evaluation.eval["precision"]


_BACKENDS = {"pycocotools": _pycocotools, "faster-coco-eval": _faster_coco_eval}


def _best_backend() -> str:
    return "faster-coco-eval" if importlib.util.find_spec("faster_coco_eval") else "pycocotools"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _percent(value: float) -> str:
    return "    -" if value < 0 else f"{100 * value:5.1f}"


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
