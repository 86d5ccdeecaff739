"""YOLOv7's weights by the names that the published checkpoints give them."""

import functools
from collections.abc import Iterator
from typing import Any

import keras

from tfdet.backbones.yolov7 import YoloV7Backbone
from tfdet.detectors.dynamicdet import DynamicDetector
from tfdet.detectors.yolov7 import YoloV7
from tfdet.heads.yolo import YoloHead
from tfdet.layers.conv_bn import ConvBN
from tfdet.layers.elan import ELAN
from tfdet.layers.max_pool_down import MaxPoolDown
from tfdet.layers.reorg import ReOrg
from tfdet.layers.rep_conv import RepConv
from tfdet.layers.router import Router
from tfdet.layers.sppcspc import SPPCSPC
from tfdet.necks.yolov7 import YoloV7Neck
from tfdet.weights.checkpoint import CheckpointTensor, batch_norm, kernel, vector

# A checkpoint numbers the lines of a network's table. A row is what stands in such a line: a layer,
# or None where the line has no weights.
Row = Any


def reference_entries(model: YoloV7 | DynamicDetector) -> list[CheckpointTensor]:
    """All tensors of the published checkpoint of a model that is not merged, in the file's order.

    Args:
        model: `yolov7`, `yolov7-x` or `yolov7-w6`, with auxiliary heads or without, or a dynamic
            detector of two of them.
    """
    if isinstance(model, DynamicDetector):
        return _cascade_entries(model)
    return _entries_of_rows("model", [*_own_backbone_rows(model), *_detection_rows(model)])


def _cascade_entries(model: DynamicDetector) -> list[CheckpointTensor]:
    first, second = model.first, model.second
    joined = [*model.fusion.convs.values(), *_joined_backbone_rows(second)]
    return [
        *_entries(model.router, "router"),
        *_entries_of_rows("model_b", _own_backbone_rows(first)),
        *_entries_of_rows("model_b2", joined),
        *_entries_of_rows("model_h", _detection_rows(first)),
        *_entries_of_rows("model_h2", _detection_rows(second)),
    ]


def _entries_of_rows(prefix: str, rows: list[Row]) -> list[CheckpointTensor]:
    """The tensors of a part whose lines are named "prefix.0", "prefix.1" and so on."""
    return [x for i, row in enumerate(rows) for x in _entries(row, f"{prefix}.{i}")]


def _own_backbone_rows(model: YoloV7) -> list[Row]:
    if model.config.merged:
        raise ValueError("expected a model that is not merged")
    blocks = _backbone_blocks(model.backbone)
    return [row for _, _, layer in blocks for row in _rows(layer)]


def _joined_backbone_rows(model: YoloV7) -> list[Row]:
    """Of a second backbone: without ReOrg, which is the first's, and with a line for each sum."""
    result = []
    for level, is_last_of_entry, layer in _backbone_blocks(model.backbone):
        if not isinstance(layer, ReOrg):
            result += _rows(layer)
        if is_last_of_entry and level in model.joint_channels:
            result.append(None)
    return result


def _backbone_blocks(backbone: YoloV7Backbone) -> Iterator[tuple[str, bool, keras.layers.Layer]]:
    for level, entry in backbone.entries.items():
        for layer in entry:
            yield level, layer is entry[-1], layer
        for layer in backbone.bodies[level]:
            yield level, False, layer


def _detection_rows(model: YoloV7) -> list[Row]:
    return [*_neck_rows(model.neck), (model.head, model.aux_head)]


def _neck_rows(neck: YoloV7Neck) -> Iterator[Row]:
    yield neck.coarsest
    for level, refine in neck.refine.items():
        # Enlarging and concatenating have lines of their own.
        yield from (neck.narrow[level], None, neck.lateral[level], None)
        yield from _rows(refine)
    for level, coarsen in neck.coarsen.items():
        halve = neck.halve[level]
        yield from _rows(halve)
        # A `MaxPoolDown` ends with the line in which its maps and the level are concatenated.
        if not isinstance(halve, MaxPoolDown):
            yield None
        yield from _rows(coarsen)
    yield from neck.outputs.values()
    yield from neck.aux_outputs.values()


@functools.singledispatch
def _rows(layer: Any) -> list[Row]:
    """The lines that a block takes up; most take one."""
    return [layer]


@_rows.register
def _(layer: ReOrg) -> list[Row]:
    return [None]


@_rows.register
def _(layer: ELAN) -> list[Row]:
    return [layer.shortcut, layer.entry, *layer.chain, None, layer.exit]


@_rows.register
def _(layer: MaxPoolDown) -> list[Row]:
    return [None, layer.pooled, layer.narrow, layer.strided, None]


@functools.singledispatch
def _entries(row: Row, prefix: str) -> Iterator[CheckpointTensor]:
    """The tensors of one line."""
    raise ValueError(f"{type(row).__name__} has no published names")


@_entries.register
def _(row: None, prefix: str) -> Iterator[CheckpointTensor]:
    return iter(())


@_entries.register
def _(row: ConvBN, prefix: str) -> Iterator[CheckpointTensor]:
    yield kernel(f"{prefix}.conv.weight", row.conv)
    yield from batch_norm(f"{prefix}.bn", row.bn)


@_entries.register
def _(row: keras.layers.Conv2D, prefix: str) -> Iterator[CheckpointTensor]:
    yield kernel(f"{prefix}.conv.weight", row)
    yield vector(f"{prefix}.conv.bias", row.bias)


@_entries.register
def _(row: Router, prefix: str) -> Iterator[CheckpointTensor]:
    for name, layer in (("layer1", row.hidden), ("layer2", row.score)):
        inputs, outputs = layer.kernel.shape
        yield CheckpointTensor(f"{prefix}.{name}.weight", (outputs, inputs, 1, 1), layer.kernel)
        yield vector(f"{prefix}.{name}.bias", layer.bias)


@_entries.register
def _(row: SPPCSPC, prefix: str) -> Iterator[CheckpointTensor]:
    for conv in row.convs:
        yield from _entries(conv, f"{prefix}.{conv.name}")


@_entries.register
def _(row: RepConv, prefix: str) -> Iterator[CheckpointTensor]:
    if row.identity is not None:
        raise ValueError(f"{row.path} has a branch that no published network has")
    for name, branch in (("rbr_dense", row.dense), ("rbr_1x1", row.pointwise)):
        yield kernel(f"{prefix}.{name}.0.weight", branch.conv)
        yield from batch_norm(f"{prefix}.{name}.1", branch.bn)


@_entries.register
def _(row: tuple, prefix: str) -> Iterator[CheckpointTensor]:
    lead, auxiliary = row
    levels, anchors = len(lead.strides), lead.anchors_per_cell
    yield CheckpointTensor(f"{prefix}.anchors", (levels, anchors, 2), None)
    yield CheckpointTensor(f"{prefix}.anchor_grid", (levels, 1, anchors, 1, 1, 2), None)
    yield from _predictors(f"{prefix}.m", lead)
    if auxiliary is not None:
        yield from _predictors(f"{prefix}.m2", auxiliary)
    for name, key in (("ia", "add"), ("im", "multiply")):
        vectors = (getattr(p, key) for p in lead.predictors if p.implicit)
        for i, implicit in enumerate(vectors):
            channels = implicit.implicit.shape[0]
            yield CheckpointTensor(
                f"{prefix}.{name}.{i}.implicit", (1, channels, 1, 1), implicit.implicit
            )


def _predictors(prefix: str, head: YoloHead) -> Iterator[CheckpointTensor]:
    for i, predictor in enumerate(head.predictors):
        yield kernel(f"{prefix}.{i}.weight", predictor.conv)
        yield vector(f"{prefix}.{i}.bias", predictor.conv.bias)
