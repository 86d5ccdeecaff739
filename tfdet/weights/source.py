"""What a kind of checkpoint is recognised by, and where its tensors go."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras

from tfdet import registry
from tfdet.detectors.detector_config import DetectorConfig
from tfdet.weights.checkpoint import CheckpointTensor

Shapes = Mapping[str, tuple[int, ...]]
# A registered name, or the configuration of a model that a user has changed.
Model = str | DetectorConfig


def config_of(model: Model) -> Any:
    """The configuration of a model."""
    return registry.config(model) if isinstance(model, str) else model


def name_of(model: Model) -> str:
    """What a model is called in messages."""
    return model if isinstance(model, str) else f"a model with a {type(model).__name__}"


def nothing(model: keras.Model, shapes: Shapes) -> list[keras.Variable]:
    """No variables: the checkpoint has a value for each."""
    return []


class Source(NamedTuple):
    """A kind of checkpoint of another project.

    Attributes:
        name: as in "torchvision:FILE"; of the file in `tfdet/weights/` that maps it.
        title: the project, for people.
        recognises: whether a file with these tensors {name: shape} is of this kind, or may be. The
            other functions are for such files only.
        backbone_only: whether a file with these tensors has a backbone and no detector.
        settings: keys of the configuration that make a model the same function as the checkpoint's
            network, {"num_classes": 90, "pixels": "imagenet", ...}, dotted where nested.
            Of a backbone, those that concern it: without "num_classes". A `UserError` where the
            garden has no such function.
        entries: every tensor of the checkpoint, for a model that was created with those settings;
            of a backbone's file those of its backbone, wherever it is a part. A `UserError` for a
            model that the checkpoint is not for.
        new: variables that the published network does not have, such as norms of its other levels;
            they keep the values that they begin with. Any other variable without a tensor is an
            error.
        is_ambiguous: whether networks that are no model of ours have the same tensors: the user has
            to name the source.
    """

    name: str
    title: str
    recognises: Callable[[Shapes], bool]
    backbone_only: Callable[[Shapes], bool]
    settings: Callable[[Model, Shapes], dict[str, Any]]
    entries: Callable[[keras.Model, Shapes], list[CheckpointTensor]]
    new: Callable[[keras.Model, Shapes], list[keras.Variable]] = nothing
    is_ambiguous: bool = False

    @property
    def note(self) -> str:
        """What stands behind the name in messages."""
        return "" if self.title == self.name else f" ({self.title})"
