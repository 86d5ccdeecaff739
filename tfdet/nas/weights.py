"""Weights of a detector as a dict of arrays, by the names that its variables have.

    weights = take_weights(model)  # {"backbone/stage_1_block_0/conv1/kernel": ..., ...}
    encoding, weights = add_layer(model_encoding(model), weights, stage=3)
    student = rebuild(model, encoding, weights)

Blocks are named by their places, so that what moves blocks renames their weights.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfdet.backbones.catalog import encoding_of
from tfdet.backbones.encoding import Encoding
from tfdet.errors import UserError

Weights = dict[str, np.ndarray]
# Kernels outside of the backbone that read each stage's output, by stage.
Readers = Mapping[int, tuple[str, ...]]

# Of a feature pyramid on top; stages whose map it does not read have no such kernel.
LATERALS: Readers = {stage: (f"neck/lateral_p{stage + 1}/kernel",) for stage in (1, 2, 3, 4)}


def take_weights(model: keras.Model) -> Weights:
    """Copies of all weights of a built detector, by name without that of the model."""
    return {_name(model, v): np.array(keras.ops.convert_to_numpy(v)) for v in model.weights}


def put_weights(model: keras.Model, weights: Weights) -> None:
    """Gives a built detector the weights of `take_weights`; all must fit, and none be left."""
    own = {_name(model, v): v for v in model.weights}
    for name in {**own, **weights}:
        found, wanted = (tuple(x[name].shape) if name in x else None for x in (weights, own))
        if found != wanted:
            raise UserError(
                f"the weights do not fit {model.name}: {name} has shape {found} among them and "
                f"{wanted} in the model (None: is not there)"
            )
    for name, variable in own.items():
        variable.assign(weights[name])


def rebuild(
    model: Any,
    encoding: Encoding,
    weights: Weights,
    image_size: tuple[int, int] | None = None,
) -> Any:
    """A detector like `model`, on another backbone, with these weights.

    Args:
        model: a detector whose configuration has the key `backbone`.
        encoding: of the new detector's backbone.
        weights: all of its weights.
        image_size: (height, width) of its canvas; None for that of `model`.
    """
    size = model.image_size if image_size is None else image_size
    config = dataclasses.replace(model.config, backbone=encoding, image_size=size)
    student = type(model).from_record(config, model.name)
    student.build_variables()
    put_weights(student, weights)
    return student


def model_encoding(model: Any) -> Encoding:
    """The encoding of a detector's backbone; a detector on another backbone is refused."""
    backbone = getattr(model.config, "backbone", None)
    encoding = encoding_of(backbone) if isinstance(backbone, (str, Encoding)) else None
    if encoding is None:
        kind = f" but on {backbone!r}" if isinstance(backbone, str) else ""
        raise UserError(
            f"{model.name} does not stand on a ResNet{kind}; use a Faster R-CNN, Mask R-CNN, FCOS, "
            "PackDet or RetinaNet whose backbone is a ResNet"
        )
    return encoding


def model_readers(model: Any) -> Readers:
    """The kernels outside of a detector's backbone that read each of its stages."""
    readers = dict(LATERALS)
    if getattr(model.neck, "coarse_from", "") == "backbone":
        readers[4] += tuple(
            f"neck/{conv.name}/kernel" for conv in list(model.neck.coarse.values())[:1]
        )
    return readers


def block_prefix(place: tuple[int, int]) -> str:
    """What the names of a block's weights begin with."""
    stage, index = place
    return f"backbone/stage_{stage}_block_{index}/"


def block_weights(weights: Weights, place: tuple[int, int]) -> Weights:
    """The weights of a block, by their names in it ("conv1/kernel")."""
    prefix = block_prefix(place)
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def with_stages(weights: Weights, stages: Mapping[int, list[Weights]]) -> Weights:
    """`weights` with other blocks in these stages, each as `block_weights` gives it."""
    gone = tuple(f"backbone/stage_{stage}_block_" for stage in stages)
    kept = {name: value for name, value in weights.items() if not name.startswith(gone)}
    for stage, blocks in stages.items():
        for index, block in enumerate(blocks):
            prefix = block_prefix((stage, index))
            kept |= {f"{prefix}{name}": value for name, value in block.items()}
    return kept


def stage_weights(encoding: Encoding, weights: Weights, stage: int) -> list[Weights]:
    """The weights of each block of a stage."""
    return [block_weights(weights, (stage, i)) for i in range(encoding.depths[stage - 1])]


def _name(model: keras.Model, variable: keras.Variable) -> str:
    return variable.path.removeprefix(f"{model.name}/")
