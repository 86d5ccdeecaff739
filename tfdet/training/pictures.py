"""Pictures of a training run: validation detections, and the curve of its measurements."""

import pathlib
from typing import Any

from tfdet.data import pipeline
from tfdet.data.dataset import DetectionDataset
from tfdet.serving import draw


def draw_validation(model: Any, dataset: DetectionDataset, count: int, path: pathlib.Path) -> None:
    """Draws the first `count` images of `dataset`, each with its truth and with its detections."""
    shown = dataset.subset(count)
    masks = model.mask_size if dataset.outlines is not None else 0
    batches = pipeline.eval_batches(
        shown, model.image_size, len(shown), model.pad_value, mask_size=masks
    )
    batch = next(iter(batches), None)
    if batch is None:  # each of these images turned out damaged
        return
    images, targets = batch
    found = model.detect_fitted(images)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = model.class_names
    draw.save_picture(str(path), draw.comparison(images.numpy(), targets, found, names))


def draw_curve(path: pathlib.Path, history: list[dict[str, float]]) -> None:
    """Draws losses, scores and learning rate over the epochs."""
    losses = [key for key in history[-1] if key == "loss" or key.endswith("_loss")]
    panels = {
        "loss": losses,
        "average precision": ["AP", "AP50", "AP75"],
        "learning rate": ["learning_rate"],
    }
    curves = {title: _curves(names, history) for title, names in panels.items()}
    draw.save_curves(str(path), {title: lines for title, lines in curves.items() if lines})


def _curves(names: list[str], history: list[dict[str, float]]) -> dict[str, Any]:
    rows = {name: [row for row in history if name in row] for name in names}
    return {
        name: ([row["epoch"] for row in found], [row[name] for row in found])
        for name, found in rows.items()
        if found
    }
