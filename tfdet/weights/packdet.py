"""Weights of the PackDet repository: PackDet, FCOS, RetinaNet and RetinaNet with PackOp.

Those of the FCOS repository and of maskrcnn-benchmark's RetinaNet have the same names. Their images
have the channels in the order blue, green, red, and here red, green, blue: the first convolution is
turned round.

A file does not say whether its FCOS or PackDet is the improved one (`normalize_distances`, with
`centerness_tower: box`) or the first one (distances in pixels, centerness on the tower of the
classes): that is what the model's name and keys say. The models on ResNets are the improved ones
("fcos_imprv" in the names of files), those on MobileNet the first ones.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from tfdet.backbones.mobilenet import MobileNetV2
from tfdet.detectors.fcos import FCOS, FCOSConfig
from tfdet.detectors.pyramid import PyramidConfig, PyramidDetector
from tfdet.detectors.retinanet import RetinaNet
from tfdet.errors import UserError
from tfdet.weights import parts
from tfdet.weights.checkpoint import CheckpointTensor, batch_norm, kernel
from tfdet.weights.source import Model, Shapes, Source

_TITLE = "PackDet's repository"
_BODY = "backbone.body."
# What its ResNets call otherwise than torchvision.
_SPELLINGS = {
    "module.": "",
    "body.stem.": "body.",
    ".conv2.conv.weight": ".conv2.weight",
    ".conv2.offset.": ".conv2.conv_offset.",
}


class _Kind(NamedTuple):
    """One of the four detectors.

    Attributes:
        is_fcos: with points, not anchors.
        is_packed: with a packed head.
        head: what the names of the tensors of its predictors begin with.
        example: a model.
    """

    is_fcos: bool
    is_packed: bool
    head: str
    example: str


_PACKDET = _Kind(True, True, "rpn.head.predictor", "packdet-r50")
_FCOS = _Kind(True, False, "rpn.head", "fcos-r50")
_RETINAPACK = _Kind(False, True, "rpn.head", "retinanet-packop-r50")
_RETINANET = _Kind(False, False, "rpn.head", "retinanet-r50")

# Tensors of PackDet's head, and of the heads of the others.
_HEADS = (
    {"rpn.head.predictor.cls_logits.weight"},
    {"rpn.head.cls_logits.weight", "rpn.head.bbox_pred.weight"},
)


def recognises(shapes: Shapes) -> bool:
    """See `Source`."""
    names = _named(shapes)
    return "backbone.fpn.fpn_inner2.weight" in names and any(x <= names.keys() for x in _HEADS)


def settings(name: Model, shapes: Shapes) -> dict[str, Any]:
    """See `Source`."""
    named = _named(shapes)
    kind, owner = _kind(named), parts.owner_of(name)
    config = owner.config
    is_right = isinstance(config, PyramidConfig) and not owner.prefix
    if not is_right or _kind_of(config) != kind:
        raise UserError(
            f"these weights are for a model such as {kind.example}, and {owner.name} is another "
            "detector"
        )
    count = named[f"{kind.head}.cls_logits.bias"][0] // _anchors(kind, named)
    return {"num_classes": count, **_function(config, named)}


def entries(model: keras.Model, shapes: Shapes) -> list[CheckpointTensor]:
    """See `Source`."""
    named, there = _named(shapes), {_plain(name): name for name in shapes}
    kind = _kind(named)
    if not isinstance(model, (FCOS, RetinaNet)) or _kind_of(model.config) != kind:
        raise UserError(
            f"these weights are for a model such as {kind.example}, not for this "
            f"{type(model).__name__}"
        )
    parts.check(model, _function(model.config, named), _TITLE)
    found = [
        *_backbone(model.backbone),
        *_neck(model.neck),
        *_head(kind, model, named),
        *parts.unused(named, "rpn.anchor_generator."),
    ]
    return [x._replace(name=there.get(x.name, x.name)) for x in parts.existing(found, named)]


def _plain(name: str) -> str:
    for theirs, ours in _SPELLINGS.items():
        name = name.replace(theirs, ours)
    return name


def _named(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The tensors by the names that torchvision would give those of the backbone."""
    return {_plain(name): tuple(shape) for name, shape in shapes.items()}


def _kind(named: Shapes) -> _Kind:
    if "rpn.head.predictor.cls_logits.weight" in named:
        return _PACKDET
    if "rpn.fe.reduction.conv.weight" in named:
        return _RETINAPACK
    return _FCOS if "rpn.head.centerness.weight" in named else _RETINANET


def _kind_of(config: PyramidConfig) -> _Kind:
    is_packed = config.packing is not None
    if isinstance(config, FCOSConfig):
        return _PACKDET if is_packed else _FCOS
    return _RETINAPACK if is_packed else _RETINANET


def _anchors(kind: _Kind, named: Shapes) -> int:
    return named[f"{kind.head}.bbox_pred.bias"][0] // 4


def _function(config: PyramidConfig, named: Shapes) -> dict[str, Any]:
    """Keys of the configuration that make the same function."""
    width, inputs = named["backbone.fpn.top_blocks.p6.weight"][:2]
    backbone: Any = "mnv2"
    if parts.is_resnet(_BODY, named):
        inside = named[f"{_BODY}layer1.0.conv2.weight"]
        habits = {"strides_first": inside[0] == inside[1], "epsilon": 0.0}
        backbone = parts.resnet_style(config.backbone, _BODY, named, _TITLE, **habits)
    found = {
        "backbone": backbone,
        "pixels": "detectron",
        "fpn_width": width,
        "coarse_from": "pyramid" if inputs == width else "backbone",
        "neck": "fpn",
    }
    if isinstance(config, FCOSConfig):
        return {**found, "point_style": "fcos"}
    return {**found, "anchor_style": "detectron", "head_groups": 0}


def _backbone(backbone: Any) -> Iterator[CheckpointTensor]:
    if isinstance(backbone, MobileNetV2):
        yield from _mobile(backbone)
        return
    for tensor in parts.resnet_tensors(_BODY, backbone):
        yield parts.turned(tensor) if tensor.name == f"{_BODY}conv1.weight" else tensor


def _mobile(backbone: MobileNetV2) -> Iterator[CheckpointTensor]:
    stem = f"{_BODY}features.0"
    yield parts.turned(kernel(f"{stem}.0.weight", backbone.stem_conv))
    yield from batch_norm(f"{stem}.1", backbone.stem_bn)
    for number, block in enumerate(backbone.blocks, start=1):
        # An activation stands behind each norm but the last.
        places = (0, 1, 3, 4) if block.expansion is None else (0, 1, 3, 4, 6, 7)
        names = [f"{_BODY}features.{number}.conv.{place}" for place in places]
        yield from parts.inverted_residual(block, names)


def _neck(neck: Any) -> Iterator[CheckpointTensor]:
    prefix = "backbone.fpn"
    numbers = [int(level[1:]) - 1 for level in neck.lateral]  # P3 is of the second stage
    return parts.fpn(
        [f"{prefix}.fpn_inner{i}" for i in numbers],
        [f"{prefix}.fpn_layer{i}" for i in numbers],
        [f"{prefix}.top_blocks.{level.lower()}" for level in neck.coarse],
        neck,
    )


def _head(kind: _Kind, model: PyramidDetector, named: Shapes) -> Iterator[CheckpointTensor]:
    head: Any = model.head
    if kind.is_packed:
        yield from _stack("rpn.head" if kind.is_fcos else "rpn", head.stack)
    predictor, anchors = head.predictor, _anchors(kind, named)
    for name, tower in (("cls", predictor.class_tower), ("bbox", predictor.box_tower)):
        for i, block in enumerate(tower):
            yield from _tower_block(kind, f"{kind.head}.{name}_tower", i, block)
    for tensor in parts.conv(f"{kind.head}.cls_logits", predictor.class_conv):
        yield tensor._replace(per_class=True)
    if not kind.is_fcos:
        name = f"{kind.head}.bbox_pred"
        yield from parts.outputs(name, predictor.box_conv, parts.codes, 4 * anchors)
        return
    yield from parts.conv(f"{kind.head}.bbox_pred", predictor.box_conv)
    yield from parts.conv(f"{kind.head}.centerness", predictor.centerness_conv)
    if kind.is_packed:
        name = f"{kind.head}.scale_layer.scales"
        yield CheckpointTensor(name, tuple(head.scales.shape), head.scales)
    else:
        yield from parts.numbers("rpn.head.scales.{}.scale", (1,), head.scales)


def _stack(prefix: str, stack: Any) -> Iterator[CheckpointTensor]:
    levels = [name for name, is_extra in stack.sources if is_extra]
    copies: dict[str, int] = {}
    for level, block in zip(levels, stack.extras.values(), strict=True):
        copies[level] = copies.get(level, 0) + 1
        yield from _conv_norm(f"{prefix}.mf.mf_s{int(level[1:]) - 3}_{copies[level]}", block)
    yield from _conv_norm(f"{prefix}.fe.reduction", stack.reduction)
    for i, block in enumerate(stack.blocks):
        yield from _conv_norm(f"{prefix}.fe.conv_blocks.{i}", block)


def _tower_block(kind: _Kind, tower: str, i: int, block: Any) -> Iterator[CheckpointTensor]:
    """A convolution of a tower, whose lines are numbered: convolution, norm if any, ReLU."""
    if kind is _PACKDET:
        return _conv_norm(f"{tower}.{i}", block)
    lines = 2 if block.norm is None else 3
    return _named_conv_norm(f"{tower}.{lines * i}", f"{tower}.{lines * i + 1}", block)


def _conv_norm(prefix: str, block: Any) -> Iterator[CheckpointTensor]:
    return _named_conv_norm(f"{prefix}.conv", f"{prefix}.gn", block)


def _named_conv_norm(conv: str, norm: str, block: Any) -> Iterator[CheckpointTensor]:
    if block.deformable:
        yield kernel(f"{conv}.conv.weight", block.conv)
        yield CheckpointTensor(f"{conv}.conv.bias", tuple(block.conv.bias.shape), block.conv.bias)
        yield from parts.conv(f"{conv}.offset", block.conv.offset)
    else:
        yield from parts.conv(conv, block.conv)
    if block.norm is not None:
        yield from parts.norm(norm, block.norm)


SOURCE = Source(
    name="packdet",
    title=_TITLE,
    recognises=recognises,
    backbone_only=lambda shapes: False,
    settings=settings,
    entries=entries,
)
