"""Which level of a detector learns an object of which size, and what each level is made for."""

from typing import Any, NamedTuple

import numpy as np

from tfdet.data.dataset import DetectionDataset
from tfdet.detectors.base import Detector
from tfdet.detectors.caddet import CADDet
from tfdet.detectors.dynamicdet import DynamicDetector
from tfdet.losses.points import PointLossConfig
from tfdet.ops.anchor_grid import AnchorGrid
from tfdet.ops.anchors import AnchorConfig
from tfdet.training import level_report


class ObjectLevels(NamedTuple):
    """Objects of some images, on the network's canvas.

    Attributes:
        images: that were looked at.
        sizes: [T] square root of the area, in pixels of the canvas.
        levels: [T] the level with most of the object's positives; -1 for none.
    """

    images: int
    sizes: np.ndarray
    levels: np.ndarray


class Guide(NamedTuple):
    """What a level is made for.

    Attributes:
        level: such as "P3".
        stride: pixels per cell.
        words: the sizes of boxes or of anchors that belong to it.
        ratios: width / height of its anchors; none without anchors.
    """

    level: str
    stride: int
    words: str
    ratios: tuple[float, ...]


def object_levels(model: Detector, dataset: DetectionDataset) -> ObjectLevels | None:
    """The objects of the images that `level_report` looks at; None where it reports nothing."""
    sizes, levels, images = [], [], 0
    for boxes, labels in level_report.batches(model, dataset):
        found = model.positives(boxes, labels)
        if found is None:
            return None
        images += len(boxes)
        for own, known, box in zip(found.objects, labels >= 0, boxes, strict=True):
            levels.append(_most_frequent(own, found.levels, len(known))[known])
            sides = box[known, 2:] - box[known, :2]
            sizes.append(np.sqrt(sides.prod(axis=1)))
    return ObjectLevels(images, np.concatenate(sizes), np.concatenate(levels))


def _most_frequent(objects: np.ndarray, levels: np.ndarray, count: int) -> np.ndarray:
    """[count] the level on which each object has most predictions; -1 for none."""
    is_positive = objects >= 0
    table = np.zeros((count, int(levels.max()) + 1), np.int64)
    np.add.at(table, (objects[is_positive], levels[is_positive]), 1)
    return np.where(table.any(axis=1), table.argmax(axis=1), -1)


def guides(model: Detector) -> list[Guide]:
    """What each level of a detector is made for; empty where levels are not made for sizes."""
    dense: Any = model.first if isinstance(model, DynamicDetector) else model
    config = (dense.dense() if isinstance(dense, CADDet) else dense).config
    anchors = getattr(config, "anchors", None)
    if isinstance(anchors, AnchorConfig):
        return _of_anchors(anchors)
    grid = getattr(config, "grid", None)
    if isinstance(grid, AnchorGrid):
        return _of_grid(grid)
    loss = getattr(config, "loss", None)
    if isinstance(loss, PointLossConfig):
        levels = sorted(set(config.map_levels))
        return _of_reach(loss.for_images(model.image_size).reach, levels)
    return []


def _of_anchors(config: AnchorConfig) -> list[Guide]:
    ratios = tuple(
        round(r[0] / r[1] if isinstance(r, tuple) else r, 3) for r in config.aspect_ratios
    )
    found = []
    for level in range(config.min_level, config.max_level + 1):
        stride = 2**level
        sizes = [
            config.level_scale(level) * stride * 2 ** (octave / config.num_scales)
            for octave in range(config.num_scales)
        ]
        words = f"anchors of {', '.join(f'{size:.0f}' for size in sizes)} pixels"
        found.append(Guide(f"P{level}", stride, words, ratios))
    return found


def _of_grid(grid: AnchorGrid) -> list[Guide]:
    found = []
    for stride, shapes in zip(grid.strides, grid.anchors, strict=True):
        words = f"anchors of {', '.join(f'{w:.0f} x {h:.0f}' for w, h in shapes)} pixels"
        ratios = tuple(round(w / h, 3) for w, h in shapes)
        found.append(Guide(f"P{stride.bit_length() - 1}", stride, words, ratios))
    return found


def _of_reach(reach: float, levels: list[int]) -> list[Guide]:
    found = []
    for level in levels:
        low, high = reach * 2**level / 2, reach * 2**level
        words = f"{low:.0f} to {high:.0f} pixels"
        if level == levels[0]:
            words = f"up to {high:.0f} pixels"
        elif level == levels[-1]:
            words = f"{low:.0f} pixels and more"
        words = f"distances from a point to the farthest side of its box: {words}"
        found.append(Guide(f"P{level}", 2**level, words, ()))
    return found
