"""Truth and detections of a data set in columns: what everything that explains an AP is made of."""

import dataclasses
from typing import Any

import numpy as np

from tfdet.data.dataset import DetectionDataset
from tfdet.evaluation import coco

MAX_DETECTIONS = 100  # of a class in an image, as COCO counts them


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """The annotated objects of the images that were measured.

    Attributes:
        image: int64 [T], positions of their images in the data set, ascending.
        boxes: float64 [T, 4], xyxy in pixels of the image.
        labels: int64 [T].
        is_crowd: bool [T].
        areas: float64 [T].
        rows: int64 [T], their rows in the data set.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray
    areas: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.image)


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """Detections, the surest first; equal scores in the order of their images.

    Attributes:
        image: int64 [D].
        boxes: float64 [D, 4], xyxy in pixels of the image.
        scores: float64 [D], descending.
        labels: int64 [D].
        areas: float64 [D], of the boxes or of the masks.
        runs: D masks as run lengths of the whole image; None of a detector of boxes.
    """

    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    runs: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.image)


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """Truth and detections of a data set.

    Attributes:
        dataset: the data set.
        images: int64 [N], positions of the images that were measured.
        truth: `Truth`.
        found: `Found`.
    """

    dataset: DetectionDataset
    images: np.ndarray
    truth: Truth
    found: Found

    @property
    def num_classes(self) -> int:
        return self.dataset.num_classes


def of(evaluator: coco.CocoEvaluator, of_masks: bool = False) -> Findings:
    """What a filled `CocoEvaluator` holds; images that were left out are in none of it.

    Args:
        evaluator: with detections.
        of_masks: whether the areas of the detections are those of their masks, not of their boxes.
    """
    dataset = evaluator.dataset
    is_measured = np.ones(len(dataset), bool)
    is_measured[sorted(evaluator.left_out)] = False
    image, boxes, scores, labels = evaluator.columns()
    masks = evaluator.masks
    order = _surest_first(image, scores, labels)
    order = order[is_measured[image[order]]]
    runs = [masks[i] for i in order] if masks is not None else None
    areas = _areas(boxes[order])
    if of_masks:
        from pycocotools import mask as coco_masks

        assert runs is not None, "of detections with masks"
        areas = np.array([float(coco_masks.area(one)) for one in runs])
    found = Found(image[order], boxes[order], scores[order], labels[order], areas, runs)
    return Findings(dataset, np.flatnonzero(is_measured), _truth(dataset, is_measured), found)


def _truth(dataset: DetectionDataset, is_measured: np.ndarray) -> Truth:
    image = np.repeat(np.arange(len(dataset)), np.diff(dataset.box_offsets))
    rows = np.flatnonzero(is_measured[image])
    return Truth(
        image[rows],
        dataset.boxes[rows].astype(np.float64),
        dataset.labels[rows].astype(np.int64),
        dataset.is_crowd[rows],
        dataset.areas[rows].astype(np.float64),
        rows,
    )


def _surest_first(image: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The order of detections; of each class in each image `MAX_DETECTIONS`."""
    order = np.lexsort((image, -scores))
    group = np.lexsort((labels[order], image[order]))  # stable: within a group still by score
    pairs = np.stack([image[order][group], labels[order][group]])
    is_first = np.r_[True, (np.diff(pairs) != 0).any(axis=0)][: len(group)]
    start = np.maximum.accumulate(np.where(is_first, np.arange(len(group)), 0))
    kept = np.sort(group[np.arange(len(group)) - start < MAX_DETECTIONS])
    return order[kept]


def _areas(boxes_xyxy: np.ndarray) -> np.ndarray:
    return np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1)
