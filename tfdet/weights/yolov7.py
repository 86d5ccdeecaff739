"""YOLOv7's and DynamicDet's weights by the names that the published checkpoints give them.

Files differ in what is merged already. A file is taken as it is:

- of a network as it is trained: convolutions with batch norms, RepConv's branches, implicit vectors
  in the heads; with auxiliary heads or without;
- with heads whose implicit vectors are merged (`yolov7.pt`): `implicit: false`;
- with RepConv's branches merged, into `rbr_reparam`;
- with everything merged: `merged: true`. Implicit vectors that stand in such a file are in its
  convolutions already.
"""

import functools
import re
from collections.abc import Iterator
from typing import Any

import keras

from tfdet.backbones.yolov7 import YoloV7Backbone
from tfdet.detectors.cascade_config import CascadeConfig
from tfdet.detectors.dynamicdet import DynamicDetector
from tfdet.detectors.yolov7 import YoloV7, YoloV7Config
from tfdet.errors import UserError
from tfdet.heads.yolo import YoloHead
from tfdet.layers.conv_bn import EPSILON, ConvBN
from tfdet.layers.elan import ELAN
from tfdet.layers.max_pool_down import MaxPoolDown
from tfdet.layers.reorg import ReOrg
from tfdet.layers.rep_conv import RepConv
from tfdet.layers.router import Router
from tfdet.layers.sppcspc import SPPCSPC
from tfdet.necks.yolov7 import YoloV7Neck
from tfdet.weights import parts
from tfdet.weights.checkpoint import CheckpointTensor, batch_norm, kernel, vector
from tfdet.weights.source import Model, Shapes, Source, config_of

# A checkpoint numbers the lines of a network's table. A row is what stands in such a line: a layer,
# or None where the line has no weights.
Row = Any

# The line of the first head's predictors, in a file of one network and in that of a cascade.
_VARIANTS = {105: "v7", 121: "x", 118: "w6", 122: "w6"}
_CASCADE_VARIANTS = {54: "v7", 62: "x", 71: "w6"}
_PREDICTOR = re.compile(r"(model|model_h)\.(\d+)\.m\.0\.bias")
_ANCHORS = 3
_ROLES = ("first", "second")


def recognises(shapes: Shapes) -> bool:
    """See `Source`."""
    has_pooling = any(name.endswith(".cv7.conv.weight") for name in shapes)
    return has_pooling and any(_PREDICTOR.fullmatch(name) for name in shapes)


def settings(name: Model, shapes: Shapes) -> dict[str, Any]:
    """See `Source`."""
    part, line, outputs = _predictor(shapes)
    is_cascade = part == "model_h"
    wanted = (_CASCADE_VARIANTS if is_cascade else _VARIANTS).get(line)
    found = _variants(config_of(name))
    if found != (wanted,) * (2 if is_cascade else 1):
        dynamic = "dy-" if is_cascade else ""
        example = {"v7": "yolov7", "x": "yolov7-x", "w6": "yolov7-w6"}.get(wanted or "")
        shown = name if isinstance(name, str) else "this one"
        advice = f"choose {dynamic}{example}" if example else "the garden has none that it is of"
        raise UserError(f"these weights of YOLOv7 are for another network than {shown}; {advice}")
    keys = _form(shapes)
    if is_cascade:
        keys = {f"{role}.{key}": value for role in _ROLES for key, value in keys.items()}
    elif _has_auxiliary(shapes):
        keys["auxiliary_heads"] = True
    return {"num_classes": outputs // _ANCHORS - 5, **keys}


def entries(model: keras.Model, shapes: Shapes) -> list[CheckpointTensor]:
    """See `Source`."""
    part, *_ = _predictor(shapes)
    kind = DynamicDetector if part == "model_h" else YoloV7
    detectors = (model.first, model.second) if isinstance(model, DynamicDetector) else (model,)
    if not isinstance(model, kind) or not all(isinstance(x, YoloV7) for x in detectors):
        raise UserError(
            f"these weights of YOLOv7 are for a {kind.__name__}, not for a {type(model).__name__}; "
            f"choose {'dy-yolov7' if kind is DynamicDetector else 'yolov7'} or a larger one"
        )
    for detector in detectors:
        parts.check(detector, _form(shapes), "YOLOv7")
    found = [
        x
        for x in reference_entries(model, shapes)
        if _has_router(shapes) or not x.name.startswith("router.")
    ]
    used = {x.name for x in found}
    rest = [name for name in shapes if name not in used and _is_in_convolutions(name, shapes)]
    return [
        *parts.existing(found, shapes),
        *(CheckpointTensor(name, tuple(shapes[name]), None) for name in rest),
    ]


def new(model: keras.Model, shapes: Shapes) -> list[keras.Variable]:
    """The router of a cascade whose file is of the first step of training, which has none."""
    is_new = isinstance(model, DynamicDetector) and not _has_router(shapes)
    return list(model.router.weights) if is_new else []


def reference_entries(model: YoloV7 | DynamicDetector, shapes: Shapes) -> list[CheckpointTensor]:
    """All tensors of a model's checkpoint, in the file's order.

    Args:
        model: `yolov7`, `yolov7-x` or `yolov7-w6`, with auxiliary heads or without, or a dynamic
            detector of two of them.
        shapes: of the file, which tell what of it is merged; {} for what the model has.
    """
    if isinstance(model, DynamicDetector):
        return _cascade_entries(model, shapes)
    rows = [*_own_backbone_rows(model), *_detection_rows(model)]
    return _entries_of_rows("model", rows, shapes)


def _predictor(shapes: Shapes) -> tuple[str, int, int]:
    """Part, line and outputs of the first head's first predictor."""
    found = ((_PREDICTOR.fullmatch(name), shape[0]) for name, shape in shapes.items() if shape)
    return next((match[1], int(match[2]), outputs) for match, outputs in found if match)


def _variants(config: Any) -> tuple[str | None, ...]:
    """The variants of a model's detectors; () of other models."""
    if isinstance(config, YoloV7Config):
        return (config.variant,)
    if isinstance(config, CascadeConfig) and not config.shared_heads:
        found = (config.part(role)[1] for role in ("first", "second"))
        return tuple(getattr(part, "variant", None) for part in found)
    return ()


def _has_router(shapes: Shapes) -> bool:
    return any(name.startswith("router.") for name in shapes)


def _form(shapes: Shapes) -> dict[str, Any]:
    """Keys of the configuration that make the form of a file's network."""
    merged = _is_merged(shapes)
    has_vectors = any(re.search(r"\.ia\.\d+\.implicit$", name) for name in shapes)
    return {"merged": merged, "implicit": merged or has_vectors}


def _is_merged(shapes: Shapes) -> bool:
    return not any(name.endswith(".bn.weight") for name in shapes)


def _has_auxiliary(shapes: Shapes) -> bool:
    return any(re.fullmatch(r"model\.\d+\.m2\.0\.bias", name) for name in shapes)


def _is_in_convolutions(name: str, shapes: Shapes) -> bool:
    return _is_merged(shapes) and name.endswith(".implicit")


def _cascade_entries(model: DynamicDetector, shapes: Shapes) -> list[CheckpointTensor]:
    first, second = model.first, model.second
    joined = [*model.fusion.convs.values(), *_joined_backbone_rows(second)]
    return [
        *_entries(model.router, "router", shapes),
        *_entries_of_rows("model_b", _own_backbone_rows(first), shapes),
        *_entries_of_rows("model_b2", joined, shapes),
        *_entries_of_rows("model_h", _detection_rows(first), shapes),
        *_entries_of_rows("model_h2", _detection_rows(second), shapes),
    ]


def _entries_of_rows(prefix: str, rows: list[Row], shapes: Shapes) -> list[CheckpointTensor]:
    """The tensors of a part whose lines are named "prefix.0", "prefix.1" and so on."""
    return [x for i, row in enumerate(rows) for x in _entries(row, f"{prefix}.{i}", shapes)]


def _own_backbone_rows(model: YoloV7) -> list[Row]:
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
def _entries(row: Row, prefix: str, shapes: Shapes) -> Iterator[CheckpointTensor]:
    """The tensors of one line; `shapes` of the file tell what is merged in it."""
    raise ValueError(f"{type(row).__name__} has no published names")


@_entries.register
def _(row: None, prefix: str, shapes: Shapes) -> Iterator[CheckpointTensor]:
    return iter(())


@_entries.register
def _(row: ConvBN, prefix: str, shapes: Shapes) -> Iterator[CheckpointTensor]:
    if row.merged:
        yield from parts.conv(f"{prefix}.conv", row.conv)
        return
    yield kernel(f"{prefix}.conv.weight", row.conv)
    yield from batch_norm(f"{prefix}.bn", row.bn)


@_entries.register
def _(row: keras.layers.Conv2D, prefix: str, shapes: Shapes) -> Iterator[CheckpointTensor]:
    yield kernel(f"{prefix}.conv.weight", row)
    yield vector(f"{prefix}.conv.bias", row.bias)


@_entries.register
def _(row: Router, prefix: str, shapes: Shapes) -> Iterator[CheckpointTensor]:
    for name, layer in (("layer1", row.hidden), ("layer2", row.score)):
        inputs, outputs = layer.kernel.shape
        yield CheckpointTensor(f"{prefix}.{name}.weight", (outputs, inputs, 1, 1), layer.kernel)
        yield vector(f"{prefix}.{name}.bias", layer.bias)


@_entries.register
def _(row: SPPCSPC, prefix: str, shapes: Shapes) -> Iterator[CheckpointTensor]:
    for conv in row.convs:
        yield from _entries(conv, f"{prefix}.{conv.name}", shapes)


@_entries.register
def _(row: RepConv, prefix: str, shapes: Shapes) -> Iterator[CheckpointTensor]:
    pointwise: Any = row.pointwise
    if pointwise is None:  # merged
        yield from parts.conv(f"{prefix}.rbr_reparam", row.dense.conv)
        return
    if row.identity is not None:
        raise ValueError(f"{row.path} has a branch that no published network has")
    if f"{prefix}.rbr_reparam.weight" in shapes:
        yield from _one_branch(f"{prefix}.rbr_reparam", row.dense, pointwise)
        return
    for name, branch in (("rbr_dense", row.dense), ("rbr_1x1", pointwise)):
        yield kernel(f"{prefix}.{name}.0.weight", branch.conv)
        yield from batch_norm(f"{prefix}.{name}.1", branch.bn)


def _one_branch(name: str, dense: Any, pointwise: Any) -> Iterator[CheckpointTensor]:
    """The only convolution of a RepConv that has branches here: the other one adds 0."""
    yield kernel(f"{name}.weight", dense.conv)
    bias = vector(f"{name}.bias", dense.bn.beta)
    yield bias
    # Batch norms that leave everything as it is.
    for bn in (dense.bn, pointwise.bn):
        yield parts.fixed(bias.name, bias.shape, bn.gamma, 1.0)
        yield parts.fixed(bias.name, bias.shape, bn.moving_mean, 0.0)
        yield parts.fixed(bias.name, bias.shape, bn.moving_variance, 1.0 - EPSILON)
    for variable in (pointwise.conv.kernel, pointwise.bn.beta):
        yield parts.fixed(bias.name, bias.shape, variable, 0.0)


@_entries.register
def _(row: tuple, prefix: str, shapes: Shapes) -> Iterator[CheckpointTensor]:
    lead, auxiliary = row
    levels, anchors = len(lead.strides), lead.anchors_per_cell
    yield CheckpointTensor(f"{prefix}.anchors", (levels, anchors, 2), None)
    yield CheckpointTensor(f"{prefix}.anchor_grid", (levels, 1, anchors, 1, 1, 2), None)
    yield from _predictors(f"{prefix}.m", lead)
    if auxiliary is not None:
        yield from _predictors(f"{prefix}.m2", auxiliary)
    for name, key in (("ia", "add"), ("im", "multiply")):
        vectors = (v for p in lead.predictors if (v := getattr(p, key)) is not None)
        for i, implicit in enumerate(vectors):
            channels = implicit.implicit.shape[0]
            vector_name = f"{prefix}.{name}.{i}.implicit"
            is_per_class = key == "multiply"
            yield CheckpointTensor(
                vector_name, (1, channels, 1, 1), implicit.implicit, per_class=is_per_class
            )


def _predictors(prefix: str, head: YoloHead) -> Iterator[CheckpointTensor]:
    for i, predictor in enumerate(head.predictors):
        for tensor in parts.conv(f"{prefix}.{i}", predictor.conv):
            yield tensor._replace(per_class=True)


SOURCE = Source(
    name="yolov7",
    title="YOLOv7 and DynamicDet",
    recognises=recognises,
    backbone_only=lambda shapes: False,
    settings=settings,
    entries=entries,
    new=new,
)
