"""A project whose checkpoints name our own variables, for tests of what all sources share."""

import sys
import types

import numpy as np

from tfdet.errors import UserError
from tfdet.weights import sources
from tfdet.weights.checkpoint import CheckpointTensor
from tfdet.weights.importing import path_in
from tfdet.weights.source import Source

NAME = "fake"
CLASSES = "class_net/class-predict/pointwise"
_BIAS = "net.class_bias"


def install(monkeypatch) -> None:
    """Makes it known within a test."""
    module = types.ModuleType("tfdet.weights.fake")
    module.SOURCE = SOURCE
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sources, "NAMES", (*sources.NAMES, NAME))


def checkpoint(model, classes_only: str = "", backbone_only: bool = False) -> dict[str, np.ndarray]:
    """The checkpoint that a model would have there, with values of its own."""
    random = np.random.default_rng(1)
    found = {"net.counter": np.array(7)}
    for variable in model.weights:
        path = path_in(model, variable)
        if not backbone_only or path.startswith("backbone/"):
            values = random.uniform(0.5, 1.5, variable.shape).astype("float32")
            found[_name(path)] = values
    if not backbone_only:
        found["net.num_classes"] = np.zeros(model.num_classes, "float32")
    return found


def _name(path: str) -> str:
    return f"net.{path.replace('/', '.')}"


def _settings(name, shapes):
    if "other" in name:
        raise UserError("these weights are for an EfficientDet")
    settings = {"activation": "relu6", "nms.max_detections": 60}
    if "net.num_classes" in shapes:
        settings["num_classes"] = shapes["net.num_classes"][0]
    return settings


def _entries(model, shapes):
    is_backbone = _backbone_only(shapes)
    count = None if is_backbone else shapes["net.num_classes"][0]
    entries = [CheckpointTensor("net.counter", (), None)]
    if not is_backbone:
        entries.append(CheckpointTensor("net.num_classes", (count,), None))
    for variable in model.weights:
        path = path_in(model, variable)
        if is_backbone and not path.startswith("backbone/"):
            continue
        shape = list(variable.shape)
        per_class = path.startswith("class_net/") and shape[-1] % model.num_classes == 0
        per_class = per_class and "predict" in path and "depthwise" not in path
        if per_class:
            shape[-1] = shape[-1] // model.num_classes * count
        entries.append(
            CheckpointTensor(_name(path), tuple(shape), variable, lambda x: x, per_class)
        )
    return entries


def _backbone_only(shapes):
    return "net.num_classes" not in shapes


SOURCE = Source(
    name=NAME,
    title="Fake",
    recognises=lambda shapes: "net.counter" in shapes,
    backbone_only=_backbone_only,
    settings=_settings,
    entries=_entries,
)
