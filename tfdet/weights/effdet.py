"""EfficientDets of the PyTorch package `effdet`, `tf_efficientdet_d0` to `_d7x` and `_lite0` to
`_lite4`: Google's checkpoints under other names.

Those without "tf_" pad symmetrically and have another epsilon in their batch norms; they are
refused.
"""

import re
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from tfdet.detectors.efficientdet import EfficientDet
from tfdet.errors import UserError
from tfdet.heads.retina import RetinaTower
from tfdet.necks.feature_network import FusionNode
from tfdet.weights import efficientdet, efficientnet
from tfdet.weights.checkpoint import CheckpointTensor, batch_norm, kernel, vector
from tfdet.weights.source import Model, Shapes, Source

# Of a file that effdet's training wrote: the network is a part of the loop.
_TRAINING = "model."
_ANCHORS = "anchors.boxes"
_PREDICTOR = "class_net.predict.conv_pw.weight"
_STEM = "backbone.conv_stem.weight"
_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.")


def _recognises(shapes: Shapes) -> bool:
    prefix = _prefix(shapes)
    return {prefix + _PREDICTOR, prefix + _STEM} <= shapes.keys()


def _prefix(shapes: Shapes) -> str:
    return _TRAINING if _TRAINING + _STEM in shapes else ""


def _variant(shapes: Shapes) -> efficientdet.Variant:
    prefix = _prefix(shapes)
    names = [name.removeprefix(prefix) for name in shapes]
    if "class_net.conv_rep.0.conv_pw.bias" not in names:
        raise UserError(
            "these are weights of an effdet model without 'tf_' in its name: it pads symmetrically "
            "and has another epsilon, a function that no model here is; use tf_efficientdet_*"
        )
    scale = scale_of(shapes, f"{prefix}backbone.")
    levels = _count(names, r"class_net\.bn_rep\.0\.(\d+)\.")
    return efficientdet.Variant(
        backbone=scale,
        fpn_width=shapes[prefix + _PREDICTOR][1],
        fpn_cells=_count(names, r"fpn\.cell\.(\d+)\."),
        head_repeats=_count(names, r"class_net\.conv_rep\.(\d+)\."),
        max_level=2 + levels,
        is_weighted=any(name.endswith("edge_weights") for name in names),
    )


def scale_of(shapes: Shapes, prefix: str) -> str:
    """The scale of an EfficientNet by timm's names, which begin with `prefix`."""
    inner = {name.removeprefix(prefix): shape for name, shape in shapes.items()}
    places = {match[0]: match for name in inner if (match := _BLOCK.match(name))}
    last = max(places, key=lambda x: (int(places[x][1]), int(places[x][2])), default="")
    ends = (inner.get(f"{last}{name}.weight") for name in ("conv_pwl", "conv_pw"))
    width = next((shape[0] for shape in ends if shape), 0)
    is_lite = not any(".se." in name for name in inner)
    stem = inner.get("conv_stem.weight", (0,))[0]
    scale = efficientnet.scale_of(len(places), stem, width, is_lite)
    if scale is None:
        raise UserError(
            f"a backbone of {len(places)} blocks and a stem of {stem} channels is no published "
            "EfficientNet; tf_efficientnet_b0 to _b7 and _lite0 to _lite4 can be read, and "
            "effdet's detectors with them, tf_efficientdet_*"
        )
    return scale


def _count(names: list[str], pattern: str) -> int:
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def _settings(name: Model, shapes: Shapes) -> dict[str, Any]:
    variant = _variant(shapes)
    outputs = shapes[_prefix(shapes) + _PREDICTOR][0]
    classes = outputs // efficientdet.ANCHORS_PER_CELL
    return {
        **efficientdet.settings(name, variant, classes),
        "aspect_ratios": efficientdet.PAIRS,
    }


def _entries(model: keras.Model, shapes: Shapes) -> list[CheckpointTensor]:
    prefix = _prefix(shapes)
    detector = efficientdet.check(model, _variant(shapes))
    entries = [entry._replace(name=prefix + entry.name) for entry in _tensors(detector)]
    if _ANCHORS in shapes:
        entries.append(CheckpointTensor(_ANCHORS, shapes[_ANCHORS], None))
    return entries


def _tensors(model: EfficientDet) -> Iterator[CheckpointTensor]:
    yield from backbone_tensors("backbone.", model.backbone)
    for i, resample in enumerate(model.neck.coarser.values(), start=3):
        if resample.conv is not None:
            yield from _conv_and_norm(f"fpn.resample.{i}.conv", resample)
    for i, cell in enumerate(model.neck.cells):
        for j, node in enumerate(cell.fnodes):
            yield from _node(f"fpn.cell.{i}.fnode.{j}", node)
    yield from _tower("class_net", model.class_net)
    yield from _tower("box_net", model.box_net)


def backbone_tensors(prefix: str, backbone: Any) -> Iterator[CheckpointTensor]:
    """An EfficientNet by timm's names."""
    for part in efficientnet.parts(backbone):
        if part.role in efficientnet.STEM:
            name = {"stem_conv": "conv_stem", "stem_bn": "bn1"}[part.role]
        else:
            names = _NAMES if backbone.stages[part.stage].expand > 1 else _NAMES_WITHOUT_EXPANSION
            name = f"blocks.{part.stage}.{part.repeat}.{names[part.role]}"
        yield from efficientnet.pytorch_tensors(prefix + name, part.layer)


_NAMES = {
    "expand_conv": "conv_pw",
    "expand_bn": "bn1",
    "depthwise_conv": "conv_dw",
    "depthwise_bn": "bn2",
    "se_reduce": "se.conv_reduce",
    "se_expand": "se.conv_expand",
    "project_conv": "conv_pwl",
    "project_bn": "bn3",
}
_NAMES_WITHOUT_EXPANSION = {
    **_NAMES,
    "depthwise_bn": "bn1",
    "project_conv": "conv_pw",
    "project_bn": "bn2",
}


def _node(prefix: str, node: FusionNode) -> Iterator[CheckpointTensor]:
    weights = node.fusion.fusion_weights
    for i, variable in enumerate(weights):
        yield CheckpointTensor(
            f"{prefix}.combine.edge_weights", (len(weights),), variable, _picked(i)
        )
    for number, resample in zip(node.node.inputs, node.resamples, strict=True):
        if resample.conv is not None:
            yield from _conv_and_norm(f"{prefix}.combine.resample.{number}.conv", resample)
    yield from _separable(f"{prefix}.after_combine.conv", node.conv)
    yield from batch_norm(f"{prefix}.after_combine.conv.bn", node.bn)


def _picked(i: int) -> Any:
    def convert(array: np.ndarray) -> np.ndarray:
        return array[i]

    return convert


def _conv_and_norm(prefix: str, resample: Any) -> Iterator[CheckpointTensor]:
    yield kernel(f"{prefix}.conv.weight", resample.conv)
    yield vector(f"{prefix}.conv.bias", resample.conv.bias)
    yield from batch_norm(f"{prefix}.bn", resample.bn)


def _separable(prefix: str, conv: Any, per_class: bool = False) -> Iterator[CheckpointTensor]:
    height, width, channels, _ = conv.depthwise_kernel.shape
    yield CheckpointTensor(
        f"{prefix}.conv_dw.weight", (channels, 1, height, width), conv.depthwise_kernel
    )
    outputs = conv.pointwise_kernel.shape[-1]
    yield CheckpointTensor(
        f"{prefix}.conv_pw.weight",
        (outputs, channels, 1, 1),
        conv.pointwise_kernel,
        per_class=per_class,
    )
    yield CheckpointTensor(f"{prefix}.conv_pw.bias", (outputs,), conv.bias, per_class=per_class)


def _tower(prefix: str, tower: RetinaTower) -> Iterator[CheckpointTensor]:
    for i, conv in enumerate(tower.convs):
        yield from _separable(f"{prefix}.conv_rep.{i}", conv)
        for j, bn in enumerate(tower.bns[i].values()):
            yield from batch_norm(f"{prefix}.bn_rep.{i}.{j}.bn", bn)
    yield from _separable(f"{prefix}.predict", tower.predictor, per_class=prefix == "class_net")


SOURCE = Source(
    name="effdet",
    title="effdet (PyTorch), models named tf_efficientdet_*",
    recognises=_recognises,
    backbone_only=lambda shapes: False,
    settings=_settings,
    entries=_entries,
)
