"""TensorFlow checkpoints of google/automl: EfficientDet D0 to D7x and lite0 to lite4, and the
EfficientNets that they start from.

Where a checkpoint has moving averages of its variables, those are taken, as in its evaluation.

The anchors of the first checkpoints, up to September 2020, have the sides (1.4, 0.7) and (0.7, 1.4)
where later ones have square roots of 2. No tensor shows it: for them set `aspect_ratios` to
`weights.efficientdet.PAIRS`. Nor does one tell that a backbone was trained with AdvProp, whose
pixels are others; take those without.
"""

import re
from collections.abc import Iterator
from typing import Any

import keras

from tfdet.backbones.efficientnet import EfficientNet, own_pixels
from tfdet.detectors.efficientdet import EfficientDet
from tfdet.errors import UserError
from tfdet.heads.retina import RetinaTower
from tfdet.necks.feature_network import FusionNode
from tfdet.weights import efficientdet, efficientnet
from tfdet.weights.checkpoint import CheckpointTensor, unchanged
from tfdet.weights.source import Model, Shapes, Source

_SCOPE = re.compile(r"efficientnet-((?:b|lite)\d)/")
_AVERAGE = "/ExponentialMovingAverage"
# What optimizers and training keep beside variables, and the classifier of a backbone.
_UNUSED = re.compile(
    r"global_step$|.*/(Momentum|RMSProp(_1)?|Adam(_1)?)$|beta[12]_power$|efficientnet-\w+/head/"
)
_PREDICTOR = "class_net/class-predict/pointwise_kernel"
_STEM = "stem/conv2d/kernel"
_BATCH_NORM = "tpu_batch_normalization"


def _recognises(shapes: Shapes) -> bool:
    return any(_SCOPE.match(name) and name.endswith(_STEM) for name in shapes)


def _backbone_only(shapes: Shapes) -> bool:
    return _PREDICTOR not in shapes


def _scale(shapes: Shapes) -> str:
    scopes = {match[1] for name in shapes if (match := _SCOPE.match(name))}
    if len(scopes) != 1:
        raise UserError(
            "a checkpoint of automl has the variables of one backbone, 'efficientnet-b0/...'; "
            f"here are {', '.join(sorted(scopes)) or 'none'}"
        )
    return scopes.pop()


def _variant(shapes: Shapes) -> efficientdet.Variant:
    def numbers(pattern: str) -> list[int]:
        return [int(match[1]) for name in shapes if (match := re.match(pattern, name))]

    return efficientdet.Variant(
        backbone=_scale(shapes),
        fpn_width=shapes[_PREDICTOR][2],
        fpn_cells=len(set(numbers(r"fpn_cells/cell_(\d+)/"))),
        head_repeats=len(set(numbers(r"class_net/class-(\d+)/"))),
        max_level=max(numbers(r"class_net/class-0-bn-(\d+)/"), default=0),
        is_weighted=any("/WSM" in name for name in shapes),
    )


def _settings(name: Model, shapes: Shapes) -> dict[str, Any]:
    if _backbone_only(shapes):
        scale = _scale(shapes)
        return efficientnet.settings(name, scale, own_pixels(scale))
    classes = shapes[_PREDICTOR][-1] // efficientdet.ANCHORS_PER_CELL
    return efficientdet.settings(name, _variant(shapes), classes)


def _entries(model: keras.Model, shapes: Shapes) -> list[CheckpointTensor]:
    if _backbone_only(shapes):
        scale = _scale(shapes)
        found = efficientnet.backbones(model, scale, own_pixels(scale), "EfficientNet")
        entries = [entry for backbone in found for entry in _backbone(backbone)]
    else:
        entries = list(_detector(efficientdet.check(model, _variant(shapes))))
    return _chosen(entries, shapes)


def _chosen(entries: list[CheckpointTensor], shapes: Shapes) -> list[CheckpointTensor]:
    """The moving averages in the place of variables that have one; what is left is unused."""
    taken = [
        entry._replace(name=entry.name + _AVERAGE) if entry.name + _AVERAGE in shapes else entry
        for entry in entries
    ]
    names = {entry.name for entry in taken}
    raw = {entry.name for entry in entries} - names
    unused = [name for name in shapes if name in raw or _UNUSED.match(name)]
    return [*taken, *(CheckpointTensor(name, shapes[name], None) for name in unused)]


def _detector(model: EfficientDet) -> Iterator[CheckpointTensor]:
    yield from _backbone(model.backbone)
    for resample in model.neck.coarser.values():
        yield from _resample(resample.name, resample)
    for cell in model.neck.cells:
        for node in cell.fnodes:
            yield from _node(f"fpn_cells/{cell.name}/{node.name}", node)
    yield from _tower("class", model.class_net)
    yield from _tower("box", model.box_net)


def _backbone(backbone: EfficientNet) -> Iterator[CheckpointTensor]:
    scope = f"efficientnet-{backbone.scale}"
    counts: dict[str, int] = {}
    for part in efficientnet.parts(backbone):
        place = f"{scope}/stem" if part.block < 0 else f"{scope}/blocks_{part.block}"
        if part.role.startswith("se_"):
            place += "/se"
        if isinstance(part.layer, keras.layers.BatchNormalization):
            kind = _BATCH_NORM
        else:
            is_depthwise = isinstance(part.layer, keras.layers.DepthwiseConv2D)
            kind = "depthwise_conv2d" if is_depthwise else "conv2d"
        number = counts.get(f"{place}/{kind}", 0)  # as TensorFlow counts layers of one kind
        counts[f"{place}/{kind}"] = number + 1
        yield from _layer(f"{place}/{kind}{f'_{number}' if number else ''}", part.layer)


def _node(prefix: str, node: FusionNode) -> Iterator[CheckpointTensor]:
    for variable in node.fusion.fusion_weights:
        yield unchanged(f"{prefix}/{variable.name}", variable)
    for resample in node.resamples:
        yield from _resample(f"{prefix}/{resample.name}", resample)
    after = f"{prefix}/op_after_combine{node.maps}"
    yield from _layer(f"{after}/conv", node.conv)
    yield from _layer(f"{after}/bn", node.bn)


def _resample(prefix: str, resample: Any) -> Iterator[CheckpointTensor]:
    if resample.conv is not None:
        yield from _layer(f"{prefix}/conv2d", resample.conv)
        yield from _layer(f"{prefix}/bn", resample.bn)


def _tower(kind: str, tower: RetinaTower) -> Iterator[CheckpointTensor]:
    for conv, norms in zip(tower.convs, tower.bns, strict=True):
        for layer in (conv, *norms.values()):
            yield from _layer(f"{kind}_net/{layer.name}", layer)
    for tensor in _layer(f"{kind}_net/{kind}-predict", tower.predictor):
        per_class = kind == "class" and not tensor.name.endswith("depthwise_kernel")
        yield tensor._replace(per_class=per_class)


def _layer(prefix: str, layer: Any) -> Iterator[CheckpointTensor]:
    """The variables of a layer, whose names and shapes are Keras's; but see "depthwise_kernel"."""
    for variable in layer.variables:
        is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        name = "depthwise_kernel" if is_depthwise else variable.name
        yield unchanged(f"{prefix}/{name}", variable)


SOURCE = Source(
    name="automl",
    title="google/automl (TensorFlow): EfficientDet, EfficientNet",
    recognises=_recognises,
    backbone_only=_backbone_only,
    settings=_settings,
    entries=_entries,
)
