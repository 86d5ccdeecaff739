"""Data sets with planted objects and detections."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from tfdet.data.builder import DatasetBuilder
from tfdet.evaluation import coco


def lively(crowds: bool = True) -> coco.CocoEvaluator:
    """60 images with objects, crowds and detections of every kind; scores are all different."""
    rng = np.random.default_rng(0)
    objects, detections = [], []
    for _ in range(60):
        own = []
        for _ in range(rng.integers(0, 8)):
            corner, size = rng.uniform(0, [200, 120]), rng.uniform(8, [90, 70])
            own.append(
                (rng.integers(3), [*corner, *(corner + size)], rng.random() < 0.05 and crowds)
            )
        found = []
        for _ in range(rng.integers(0, 25)):
            label, box, _ = own[rng.integers(len(own))] if own else (0, [10, 10, 60, 50], False)
            side = max(box[2] - box[0], box[3] - box[1])
            noise = rng.normal(0, side * rng.choice([0.02, 0.1, 0.4]), 4)
            box = np.sort((np.array(box) + noise).reshape(2, 2), axis=0).ravel()
            label = label if rng.random() < 0.7 else rng.integers(3)
            found.append((label, rng.random(), box.tolist()))
        objects.append(own)
        detections.append(found)
    return evaluated(objects, detections)


def evaluated(
    objects: list,
    detections: list,
    class_names: tuple[str, ...] = ("cat", "dog", "emu"),
    difficulty: list[float] | None = None,
    segmentations: Callable | None = None,
    masks: bool = False,
) -> coco.CocoEvaluator:
    """A filled `CocoEvaluator`; its images are grey, 200 x 300.

    Args:
        objects: for each image rows (label, box xyxy[, is a crowd]).
        detections: for each image rows (label, score, box xyxy).
        class_names: of the data set.
        difficulty: of each image.
        segmentations: from a box to its outline.
        masks: whether detections have masks, full ones.
    """
    content = io.BytesIO()
    Image.new("RGB", (300, 200), (120, 120, 120)).save(content, "PNG")
    builder = DatasetBuilder("planted", class_names)
    for i, rows in enumerate(objects):
        boxes = [[float(x) for x in row[1]] for row in rows]
        builder.add_image(
            image_id=i,
            file_name=f"{i:04d}.png",
            file=f"{i:04d}.png",
            size=(200, 300),
            boxes=boxes,
            labels=[int(row[0]) for row in rows],
            is_crowd=[len(row) > 2 and bool(row[2]) for row in rows],
            segmentations=[segmentations(box) for box in boxes] if segmentations else None,
            span=(0, 0),
            difficulty=difficulty[i] if difficulty else np.nan,
        )
    evaluator = coco.CocoEvaluator(builder.build(lambda _: content.getvalue()))
    most = max([len(rows) for rows in detections] + [1])
    for i, rows in enumerate(detections):
        found = {
            "boxes": np.zeros((1, most, 4)),
            "scores": np.zeros((1, most)),
            "labels": np.full((1, most), -1),
            "count": np.array([len(rows)]),
        }
        for j, (label, score, box) in enumerate(rows):
            found["labels"][0, j], found["scores"][0, j], found["boxes"][0, j] = label, score, box
        if masks:
            found["masks"] = np.ones((1, most, 40, 40))
        evaluator.add([i], found)
    return evaluator
