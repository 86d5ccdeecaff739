"""torchvision's weights: backbones trained on ImageNet, and detectors trained on COCO.

Backbones: ResNet and ResNeXt of any depth, MobileNetV2, Swin-T and -S. (torchvision does not shift
the windows of a Swin along a side that one window covers; that is P5 of images of up to 224 pixels,
and nothing else.) Detectors: see `weights.torchvision_detectors`.
"""

from collections.abc import Iterator
from typing import Any

import keras

from tfdet.backbones.mobilenet import V2_SCALES, MobileNetV2
from tfdet.backbones.resnet import ResNet
from tfdet.backbones.swin import STYLES as SWIN_STYLES
from tfdet.backbones.swin import Swin
from tfdet.errors import UserError
from tfdet.weights import parts, torchvision_detectors
from tfdet.weights.checkpoint import CheckpointTensor, batch_norm, kernel
from tfdet.weights.source import Model, Shapes, Source

_TITLE = "torchvision"
_HABITS = {"strides_first": False, "epsilon": 1e-5}
# Places in a MobileNetV2's block of convolutions and norms; the first two are of the expansion.
_EXPANDED = ("0.0", "0.1", "1.0", "1.1", "2", "3")


def recognises(shapes: Shapes) -> bool:
    """See `Source`."""
    return torchvision_detectors.recognises(shapes) or _kind(shapes) is not None


def backbone_only(shapes: Shapes) -> bool:
    """See `Source`."""
    return not torchvision_detectors.recognises(shapes)


def settings(name: Model, shapes: Shapes) -> dict[str, Any]:
    """See `Source`."""
    if not backbone_only(shapes):
        return torchvision_detectors.settings(name, shapes)
    owner = parts.owner_of(name)
    backbone = _backbone(parts.own_backbone(owner, _TITLE), shapes)
    return {f"{owner.prefix}backbone": backbone, f"{owner.prefix}pixels": "imagenet"}


def entries(model: keras.Model, shapes: Shapes) -> list[CheckpointTensor]:
    """See `Source`."""
    if not backbone_only(shapes):
        return torchvision_detectors.entries(model, shapes)
    owner = parts.backbone_owner(model, _TITLE)
    wanted = {"backbone": _backbone(owner.config.backbone, shapes), "pixels": "imagenet"}
    parts.check(owner, wanted, _TITLE)
    classifier = parts.unused(shapes, "fc.", "classifier.", "head.")
    return [*parts.existing(_tensors(owner.backbone, shapes), shapes), *classifier]


def _kind(shapes: Shapes) -> type | None:
    """The class of our backbone that a file is for."""
    if parts.is_resnet("", shapes):
        return ResNet
    if "features.1.0.attn.qkv.weight" in shapes:
        return Swin
    if {"features.1.conv.0.0.weight", "features.18.0.weight"} <= shapes.keys():
        return MobileNetV2
    return None


def _backbone(own: Any, shapes: Shapes) -> Any:
    """The backbone `own` of a model as torchvision has it; refused if the file is for another."""
    kind = _kind(shapes)
    if kind is ResNet:
        return parts.resnet_style(own, "", shapes, _TITLE, **_HABITS)
    known, found = (
        (SWIN_STYLES, _swin_name(shapes)) if kind is Swin else (V2_SCALES, _mobile_name(shapes))
    )
    is_right = own == found or {own, found} == {"mnv2", "mnv2-1280"}
    if not is_right:
        what = found or f"none of {', '.join(known)}"
        raise UserError(
            f"these weights of torchvision are for the backbone {what}, and the model's is "
            f"{own if isinstance(own, str) else 'a ResNet'}; choose a model with that backbone"
        )
    return own


def _swin_name(shapes: Shapes) -> str | None:
    repeats = tuple(
        len({name.split(".")[2] for name in shapes if name.startswith(f"features.{stage}.")})
        for stage in (1, 3, 5, 7)
    )
    filters = shapes["features.0.0.weight"][0]
    window = (round(shapes["features.1.0.attn.relative_position_bias_table"][0] ** 0.5) + 1) // 2
    found = (repeats, filters, window)
    names = (n for n, s in SWIN_STYLES.items() if (s.repeats, s.filters, s.window) == found)
    return next(names, None)


def _mobile_name(shapes: Shapes) -> str | None:
    width = shapes["features.17.conv.2.weight"][0]
    names = (name for name, scale in V2_SCALES.items() if int(320 * scale + 4) // 8 * 8 == width)
    return next(names, None)


def _tensors(backbone: Any, shapes: Shapes) -> Iterator[CheckpointTensor]:
    if isinstance(backbone, ResNet):
        yield from parts.resnet_tensors("", backbone)
    elif isinstance(backbone, Swin):
        yield from _swin(backbone, shapes)
    else:
        yield from _mobile(backbone, shapes)


def _mobile(backbone: MobileNetV2, shapes: Shapes) -> Iterator[CheckpointTensor]:
    yield kernel("features.0.0.weight", backbone.stem_conv)
    yield from batch_norm("features.0.1", backbone.stem_bn)
    for number, block in enumerate(backbone.blocks, start=1):
        places = ("0.0", "0.1", "1", "2") if block.expansion is None else _EXPANDED
        names = [f"features.{number}.conv.{place}" for place in places]
        yield from parts.inverted_residual(block, names)
    if backbone.last_conv is None:
        yield from parts.unused(shapes, "features.18.")
    else:
        yield kernel("features.18.0.weight", backbone.last_conv)
        yield from batch_norm("features.18.1", backbone.last_bn)


def _swin(backbone: Swin, shapes: Shapes) -> Iterator[CheckpointTensor]:
    yield from parts.conv("features.0.0", backbone.patches)
    yield from parts.norm("features.0.2", backbone.patch_norm)
    for number, blocks in enumerate(backbone.stages):
        for i, block in enumerate(blocks):
            yield from parts.swin_block(
                f"features.{2 * number + 1}.{i}", block, shapes, "attn", "mlp.0", "mlp.3"
            )
    for number, merge in enumerate(backbone.merges):
        yield from parts.norm(f"features.{2 * number + 2}.norm", merge.norm)
        yield parts.dense_kernel(f"features.{2 * number + 2}.reduction.weight", merge.reduce)
    # The norms of the other levels are no part of a classifier.
    yield from parts.norm("norm", backbone.norms[5])


def new(model: keras.Model, shapes: Shapes) -> list[keras.Variable]:
    """A Swin's norms of the levels before the last, which a classifier does not have."""
    if _kind(shapes) is not Swin or not backbone_only(shapes):
        return []
    norms = parts.backbone_owner(model, _TITLE).backbone.norms
    return [v for level, norm in norms.items() if level < 5 for v in norm.weights]


SOURCE = Source(
    name="torchvision",
    title=_TITLE,
    recognises=recognises,
    backbone_only=backbone_only,
    settings=settings,
    entries=entries,
    new=new,
)
