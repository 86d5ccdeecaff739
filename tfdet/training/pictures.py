"""Pictures of a training run: validation detections, and the routes of a CADDet."""

import pathlib

import numpy as np

from tfdet.data import pipeline
from tfdet.data.dataset import DetectionDataset
from tfdet.detectors.base import Detector
from tfdet.evaluation import coco
from tfdet.visualization import draw, route_figures


def of_measurement(
    model: Detector,
    dataset: DetectionDataset,
    count: int,
    evaluation: coco.Evaluation | None = None,
) -> dict[str, np.ndarray]:
    """What there is to see after a measurement, uint8 [H, W, 3] by name.

    Args:
        model: the detector as it was measured.
        dataset: the validation data.
        count: images that are shown with their detections.
        evaluation: the `coco.Evaluation` that was run, of which the routes of a CADDet are drawn.

    Returns:
        "detections" of the first images, unless these turned out damaged; "routes" of a CADDet.
    """
    drawn = {}
    detections = validation(model, dataset, count)
    if detections is not None:
        drawn["detections"] = detections
    if evaluation is not None and model.route_map is not None:
        drawn["routes"] = route_figures.diversity_of(model, evaluation)
    return drawn


def save(folder: pathlib.Path, name: str, epoch: int, picture: np.ndarray) -> None:
    """Keeps a picture of an epoch: epoch_0005.jpg of detections, routes_0005.png of routes."""
    folder.mkdir(parents=True, exist_ok=True)
    kind, ending = ("epoch", "jpg") if name == "detections" else (name, "png")
    draw.save_picture(str(folder / f"{kind}_{epoch:04d}.{ending}"), picture)


def validation(model: Detector, dataset: DetectionDataset, count: int) -> np.ndarray | None:
    """The first `count` images of `dataset`, each with its truth and with its detections.

    Beside those of a CADDet the route that the image took. None where all images are damaged.
    """
    shown = dataset.subset(count)
    masks = model.mask_size if dataset.outlines is not None else 0
    batches = pipeline.eval_batches(
        shown, model.image_size, len(shown), model.pad_value, mask_size=masks
    )
    batch = next(iter(batches), None)
    if batch is None:
        return None
    images, targets = batch
    found = model.detect_fitted(images)
    names = model.class_names
    if model.route_map is None:
        return draw.comparison(images.numpy(), targets, found, names)
    panels = route_figures.route_panels(model.route_map, found[model.score], found["macs"])
    return draw.comparison(images.numpy(), targets, found, names, columns=1, panels=panels)
