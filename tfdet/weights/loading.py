"""`tfdet.create`: models by name, with weights from wherever they are."""

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from tfdet import registry
from tfdet.weights import importing, origins, own
from tfdet.weights.report import Report

if TYPE_CHECKING:
    from tfdet.detectors.base import Detector

_LOG = logging.getLogger(__name__)


def create(name: str, weights: str | None = None, **overrides: Any) -> "Detector":
    """A detector by name, with its variables made.

    Example:
        model = tfdet.create("efficientdet-d0", weights="automl:efficientdet-d0")
        model = tfdet.create("retinanet-r50", weights="coco", num_classes=3)

    Args:
        name: one of `list_models(test=True)`.
        weights: None for random ones. "coco" (the whole detector) or "imagenet" (its backbone):
            published ones that `tfdet-weights fetch` has downloaded; "shapes": small ones in the
            package, of "fcos-nano", for the built-in data set; a name of `tfdet-weights list`; a
            file of tfdet's or another project's; "source:path" where the project has to be named.
            They choose the keys of the configuration that make the model their function.
        **overrides: fields of the configuration; fields of nested records as dicts or by dotted
            keys, as in `create("efficientdet-d0", **{"nms.method": "hard"})`. Of weights for other
            classes than `num_classes` all but the class outputs are taken.
    """
    if weights is None:
        return registry.create(name, **overrides)
    model, report = create_reported(name, weights, overrides)
    if report.new:
        _LOG.warning(report.sentence())
    return model


def create_reported(
    name: str, weights: str, overrides: dict[str, Any]
) -> tuple["Detector", Report]:
    """As `create`, with what became of the weights."""
    origin = origins.open_origin(name, weights, overrides)
    model = registry.create(name, **origins.merged(name, origin, overrides))
    asked = origins.asked_of(name, origin, overrides)
    changed = origins.changed_by(name, asked)
    report = load(model, origin, name)
    return model, dataclasses.replace(report, settings=asked, changed=changed)


def load(model: "Detector", origin: origins.Origin, name: str) -> Report:
    """Fills a model that was created with the settings of the weights.

    Args:
        model: the detector.
        origin: of the weights.
        name: of the model in the registry.
    """
    if origin.source is None or origin.weights is None:
        report = own.load(model, origin.path, name)
    else:
        tensors = origin.weights.tensors
        report = importing.fill(model, origin.source, tensors, origin.path, origin.weights.kind)
    classes = report.classes[0] or origin.settings.get("num_classes")
    return dataclasses.replace(
        report, settings=origin.settings, classes=(classes, model.num_classes)
    )
