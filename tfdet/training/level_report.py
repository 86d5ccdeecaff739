"""What each level of a detector learns from a data set, and what no level can learn."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfdet.data.dataset import DetectionDataset
from tfdet.detectors.base import Detector
from tfdet.detectors.dynamicdet import DynamicDetector
from tfdet.printable import counted

_IMAGES = 200
_BATCH = 8
_GOOD_IOU = 0.5
# Shares above which a sentence of advice is printed.
_MOST_ON_ONE_LEVEL = 0.95
_MOST_UNLEARNED = 0.02
_MOST_POOR = 0.25


@dataclasses.dataclass(frozen=True)
class LevelReport:
    """Positives of a data set's images as they are, without augmentation.

    Attributes:
        images, objects: that were looked at.
        levels: share of the positives on each level, {"P3": 0.66, ...}.
        unlearned: objects that are the target of no prediction.
        poor: objects whose best anchor has an IoU below 0.5; None without anchors.
        keys: of the configuration that change this.
    """

    images: int
    objects: int
    levels: dict[str, float]
    unlearned: int
    poor: int | None
    keys: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        """The report for people, with advice where one is due."""
        shares = "  ".join(f"{name} {100 * share:.1f} %" for name, share in self.levels.items())
        looked_at = f"{counted(self.images, 'image')}, {counted(self.objects, 'object')}"
        lines = [f"positives by level ({looked_at}):  {shares}"]
        name, most = max(self.levels.items(), key=lambda item: item[1])
        if most > _MOST_ON_ONE_LEVEL and len(self.levels) > 1:
            lines.append(f"  {name} alone learns nearly all objects; change {self.keys}")
        if self.unlearned > _MOST_UNLEARNED * self.objects:
            share = 100 * self.unlearned / self.objects
            lines.append(
                f"  {self.unlearned} objects ({share:.1f} %) are learned by no prediction: too "
                f"small, or hidden by smaller ones; change {self.keys}"
            )
        if self.poor is not None and self.poor > _MOST_POOR * self.objects:
            share = 100 * self.poor / self.objects
            lines.append(
                f"  {self.poor} objects ({share:.1f} %) have no anchor with an IoU of "
                f"{_GOOD_IOU}; change {self.keys}"
            )
        return lines


def level_report(model: Detector, dataset: DetectionDataset) -> LevelReport | None:
    """What each level learns from up to 200 images of a data set; None where nobody can say.

    That is so for detectors whose targets depend on what they predict (YOLOv7, DETR), and for data
    without objects.
    """
    counts: dict[int, int] = {}
    images = objects = unlearned = poor = 0
    has_anchors = False
    for boxes, labels in batches(model, dataset):
        images += len(boxes)
        found = model.positives(boxes, labels)
        if found is None:
            return None
        is_object = labels >= 0
        objects += int(is_object.sum())
        for level in np.unique(found.levels):
            on_level = found.objects[:, found.levels == level] >= 0
            counts[int(level)] = counts.get(int(level), 0) + int(on_level.sum())
        for own, known in zip(found.objects, is_object, strict=True):
            unlearned += int(known.sum()) - len(np.unique(own[own >= 0]))
        if found.best_iou is not None:
            has_anchors = True
            poor += int((is_object & (found.best_iou < _GOOD_IOU)).sum())
    total = sum(counts.values())
    if not total:
        return None
    levels = {f"P{level}": count / total for level, count in sorted(counts.items())}
    part = "model.first." if isinstance(model, DynamicDetector) else "model."
    key = f"{part}{'anchor_scale' if has_anchors else 'loss.reach'}"
    return LevelReport(
        images,
        objects,
        levels,
        unlearned,
        poor if has_anchors else None,
        f"{key} or model.image_size",
    )


def batches(model: Detector, dataset: DetectionDataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Boxes [B, M, 4] and labels [B, M] of the images that are looked at, on the model's canvas."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(_IMAGES, len(dataset))).astype(int))
    rows = [_objects(model, dataset, int(i)) for i in chosen]
    for first in range(0, len(rows), _BATCH):
        yield _padded(rows[first : first + _BATCH])


def _objects(model: Detector, dataset: DetectionDataset, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [M, 4] of an image on the network's canvas, and their labels [M]; without crowds."""
    rows = dataset.rows(i)
    kept = ~dataset.is_crowd[rows]
    scale = min(side / own for side, own in zip(model.image_size, dataset.sizes[i], strict=True))
    return dataset.boxes[rows][kept] * np.float32(scale), dataset.labels[rows][kept]


def _padded(rows: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [B, M, 4] and labels [B, M] of some images, -1 for padding."""
    slots = max(1, *(len(labels) for _, labels in rows))
    boxes = np.zeros((len(rows), slots, 4), np.float32)
    labels = np.full((len(rows), slots), -1, np.int32)
    for i, (own, kinds) in enumerate(rows):
        boxes[i, : len(own)], labels[i, : len(own)] = own, kinds
    return boxes, labels
