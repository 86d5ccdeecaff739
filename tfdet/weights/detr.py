"""DETR's published weights (facebookresearch/detr): `detr-r50`, `detr-r101` and their DC5 forms.

The files of a DC5 network have the same tensors as those of the other with its backbone: which of
the two a file is for is said by the name of the model alone.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from tfdet.detectors.detr import DETR, DETRConfig
from tfdet.errors import UserError
from tfdet.weights import parts
from tfdet.weights.checkpoint import CheckpointTensor, vector
from tfdet.weights.source import Model, Shapes, Source

_TITLE = "DETR"
_BODY = "backbone.0.body."


def recognises(shapes: Shapes) -> bool:
    """See `Source`."""
    return {
        "query_embed.weight",
        "class_embed.weight",
        "input_proj.weight",
        f"{_BODY}conv1.weight",
    } <= shapes.keys()


def settings(name: Model, shapes: Shapes) -> dict[str, Any]:
    """See `Source`."""
    owner = parts.owner_of(name)
    config = owner.config
    if not isinstance(config, DETRConfig):
        raise UserError(f"DETR's weights are for a model such as detr-r50, not for {owner.name}")
    count = shapes["class_embed.weight"][0] - 1  # the last is "no object"
    return {"num_classes": count, **_function(config, shapes)}


def entries(model: keras.Model, shapes: Shapes) -> list[CheckpointTensor]:
    """See `Source`."""
    if not isinstance(model, DETR):
        raise UserError(f"DETR's weights are not for a {type(model).__name__}")
    parts.check(model, _function(model.config, shapes), _TITLE)
    return parts.existing(reference_entries(model), shapes)


def reference_entries(model: DETR) -> list[CheckpointTensor]:
    """All tensors of a DETR's checkpoint, in the file's order."""
    found = [
        *_transformer(model.transformer),
        *_head(model.head),
        vector("query_embed.weight", model.transformer.query_embedding),
        *parts.conv("input_proj", model.transformer.project),
    ]
    if model.backbone.built:
        found += parts.resnet_tensors(_BODY, model.backbone)
    return found


def _function(config: DETRConfig, shapes: Shapes) -> dict[str, Any]:
    """Keys of the configuration that make the same function."""
    queries, width = shapes["query_embed.weight"]
    habits = {"strides_first": False, "epsilon": 1e-5}
    return {
        "backbone": parts.resnet_style(config.backbone, _BODY, shapes, _TITLE, **habits),
        "pixels": "imagenet",
        "width": width,
        "queries": queries,
        "encoder_layers": _layers("encoder", shapes),
        "decoder_layers": _layers("decoder", shapes),
        "feed_forward": shapes["transformer.decoder.layers.0.linear1.weight"][0],
    }


def _layers(part: str, shapes: Shapes) -> int:
    prefix = f"transformer.{part}.layers."
    return len({name.split(".")[3] for name in shapes if name.startswith(prefix)})


def _transformer(transformer: Any) -> Iterator[CheckpointTensor]:
    for i, layer in enumerate(transformer.encoder):
        attentions = {"self_attn": layer.attention}
        yield from _layer(
            f"transformer.encoder.layers.{i}", layer, attentions, layer.norm, layer.dense_norm
        )
    for i, layer in enumerate(transformer.decoder):
        attentions = {"self_attn": layer.self_attention, "multihead_attn": layer.cross_attention}
        norms = (layer.self_norm, layer.cross_norm, layer.dense_norm)
        yield from _layer(f"transformer.decoder.layers.{i}", layer, attentions, *norms)
    yield from parts.norm("transformer.decoder.norm", transformer.norm)


def _head(head: Any) -> Iterator[CheckpointTensor]:
    for tensor in parts.dense("class_embed", head.classes):
        yield tensor._replace(per_class=True)
    for i, layer in enumerate((head.box1, head.box2, head.box3)):
        yield from parts.dense(f"bbox_embed.layers.{i}", layer)


def _layer(
    prefix: str, layer: Any, attentions: dict[str, Any], *norms: Any
) -> Iterator[CheckpointTensor]:
    for name, attention in attentions.items():
        yield from _attention(f"{prefix}.{name}", attention)
    yield from parts.dense(f"{prefix}.linear1", layer.dense1)
    yield from parts.dense(f"{prefix}.linear2", layer.dense2)
    for number, norm in enumerate(norms, start=1):
        yield from parts.norm(f"{prefix}.norm{number}", norm)


def _attention(prefix: str, attention: Any) -> Iterator[CheckpointTensor]:
    """What compares and what is passed on have one tensor there, one below the other."""
    layers = (attention.query, attention.key, attention.value)
    width = attention.width
    for i, layer in enumerate(layers):
        yield CheckpointTensor(
            f"{prefix}.in_proj_weight", (3 * width, width), layer.kernel, _third(i, width)
        )
        yield CheckpointTensor(f"{prefix}.in_proj_bias", (3 * width,), layer.bias, _third(i, width))
    yield from parts.dense(f"{prefix}.out_proj", attention.output_dense)


def _third(number: int, width: int) -> parts.Convert:
    def convert(array: np.ndarray) -> np.ndarray:
        return array[number * width : (number + 1) * width].T

    return convert


SOURCE = Source(
    name="detr",
    title=_TITLE,
    recognises=recognises,
    backbone_only=lambda shapes: False,
    settings=settings,
    entries=entries,
)
