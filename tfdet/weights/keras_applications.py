"""ImageNet backbones of `keras.applications`: EfficientNetB0 to B7, ResNet50, 101 and 152, and
MobileNet and MobileNetV2 of full width.

From the .h5 files that `keras.applications` downloads or that a whole model was saved to
(`model.save("x.h5")`), whose tensors have the names of layers.

MobileNets are for the backbones "mnv1-keras", "mnv2-keras" and "mnv2-keras-1280": TensorFlow pads
other sides than PyTorch. ResNet's convolutions have biases there. A bias before a batch norm only
shifts its mean, and is taken off the moving mean here: the function stays the same.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from tfdet.backbones.efficientnet import EfficientNet
from tfdet.backbones.encoding import Encoding, resnet_encoding
from tfdet.backbones.mobilenet import MobileNetV1, MobileNetV2
from tfdet.backbones.resnet import ResNet
from tfdet.errors import UserError
from tfdet.weights import efficientnet
from tfdet.weights.checkpoint import CheckpointTensor, unchanged
from tfdet.weights.source import Model, Shapes, Source, config_of

Convert = Callable[[np.ndarray], np.ndarray]

_CLASSIFIER = ("conv_preds/", "top_conv/", "top_bn/", "predictions/", "probs/", "normalization")
_EFFICIENTNET = {"stem_conv/kernel", "block1a_project_conv/kernel"}
_RESNET = {"conv1_conv/kernel", "conv2_block1_1_conv/kernel"}
_MOBILE_V1 = {"conv1/kernel", "conv_dw_1_bn/gamma"}
_MOBILE_V2 = {"Conv1/kernel", "expanded_conv_project/kernel"}
_LAST = "Conv_1"
_RESNET_V2 = "post_bn/gamma"
_RESNEXT = "conv2_block1_2_conv/depthwise_kernel"
_NAMES = {
    "expand_conv": "expand_conv",
    "expand_bn": "expand_bn",
    "depthwise_conv": "dwconv",
    "depthwise_bn": "bn",
    "se_reduce": "se_reduce",
    "se_expand": "se_expand",
    "project_conv": "project_conv",
    "project_bn": "project_bn",
}


def _kind(shapes: Shapes) -> type | None:
    """The class of our backbone that a file is for."""
    kinds = {EfficientNet: _EFFICIENTNET, ResNet: _RESNET}
    kinds |= {MobileNetV1: _MOBILE_V1, MobileNetV2: _MOBILE_V2}
    return next((kind for kind, names in kinds.items() if names <= shapes.keys()), None)


def _recognises(shapes: Shapes) -> bool:
    return _kind(shapes) is not None


def _settings(name: Model, shapes: Shapes) -> dict[str, Any]:
    kind = _kind(shapes)
    if kind is EfficientNet:
        return efficientnet.settings(name, _scale(shapes), "imagenet")
    if kind is ResNet:
        return efficientnet.settings(name, _encoding(shapes), "caffe")
    scale = _mobile_scales(shapes)[0]
    own = getattr(config_of(name), "backbone", None)
    if own in _mobile_scales(shapes):
        scale = own
    return efficientnet.settings(name, scale, "signed")


def _entries(model: keras.Model, shapes: Shapes) -> list[CheckpointTensor]:
    kind = _kind(shapes)
    entries: list[CheckpointTensor] = []
    if kind is EfficientNet:
        title = "keras.applications' EfficientNet"
        for backbone in efficientnet.backbones(model, _scale(shapes), "imagenet", title):
            entries += _efficientnet(backbone, shapes)
    elif kind is ResNet:
        for backbone in _resnets(model, _encoding(shapes)):
            entries += _resnet(backbone)
    else:
        for backbone in _mobiles(model, shapes):
            make = _mobile_v1 if isinstance(backbone, MobileNetV1) else _mobile_v2
            entries += make(backbone, shapes)
    taken = {entry.name for entry in entries}
    unused = (n for n in shapes if n.startswith((*_CLASSIFIER, _LAST)) and n not in taken)
    return [*entries, *(CheckpointTensor(name, shapes[name], None) for name in unused)]


# EfficientNet


def _scale(shapes: Shapes) -> str:
    blocks = [name for name in shapes if name.endswith("_project_conv/kernel")]
    stem = shapes["stem_conv/kernel"][-1]
    last = shapes[max(blocks)][-1]
    is_lite = not any("_se_reduce/" in name for name in shapes)
    scale = efficientnet.scale_of(len(blocks), stem, last, is_lite)
    if scale is None or is_lite:
        raise UserError(
            f"an EfficientNet of {len(blocks)} blocks and a stem of {stem} channels is none of "
            "B0 to B7; is the file whole? (EfficientNetV2 is another network.)"
        )
    return scale


def _efficientnet(backbone: EfficientNet, shapes: Shapes) -> Iterator[CheckpointTensor]:
    for part in efficientnet.parts(backbone):
        name = part.role
        if part.block >= 0:
            letter = chr(ord("a") + part.repeat)
            name = f"block{part.stage + 1}{letter}_{_NAMES[part.role]}"
        yield from _layer(name, part.layer, shapes)


# ResNet


def _encoding(shapes: Shapes) -> Encoding:
    if _RESNET_V2 in shapes or _RESNEXT in shapes:
        raise UserError(
            "of keras.applications' ResNets those of version 1 can be read (ResNet50, ResNet101, "
            "ResNet152); ResNetV2 has its norms before the convolutions, another network"
        )
    firsts = [name for name in shapes if name.endswith("_1_conv/kernel")]
    depths = [sum(name.startswith(f"conv{i}_block") for name in firsts) for i in (2, 3, 4, 5)]
    if not all(depths):
        raise UserError(f"a ResNet of {depths} blocks in its stages; is the file whole?")
    return resnet_encoding(depths, strides_first=True, epsilon=1.001e-5)


def _resnets(model: keras.Model, encoding: Encoding) -> list[ResNet]:
    title = f"keras.applications' ResNet of {list(encoding.depths)} blocks"
    owners = efficientnet.owners(model, ResNet)
    found = [owner for owner in owners if owner.backbone.style == encoding]
    if not found:
        have = [x.backbone.style for x in owners]
        styles = "; ".join(
            f"{list(x.depths)} blocks, stride in the {'1x1' if x.strides_first else '3x3'}, "
            f"epsilon {x.epsilon:g}"
            for x in have
        )
        raise UserError(
            f"the weights are of {title}, with the stride in the 1x1 and epsilon 1.001e-05; the "
            f"model has {styles or 'no ResNet'}: create it with the settings of these weights"
        )
    for owner in found:
        if not getattr(owner.backbone, "begins_with", ""):
            efficientnet.check_pixels(owner.normalization, "caffe", title)
    return [owner.backbone for owner in found]


def _resnet(backbone: ResNet) -> Iterator[CheckpointTensor]:
    if not backbone.continues:
        yield from _conv_and_norm("conv1", backbone.stem_conv, backbone.stem_bn, _turned)
    for stage, blocks in enumerate(backbone.stages, start=2):
        for number, block in enumerate(blocks, start=1):
            prefix = f"conv{stage}_block{number}"
            if block.projection is not None:
                yield from _conv_and_norm(f"{prefix}_0", block.projection, block.projection_bn)
            for i in (1, 2, 3):
                conv, bn = getattr(block, f"conv{i}"), getattr(block, f"bn{i}")
                yield from _conv_and_norm(f"{prefix}_{i}", conv, bn)


# MobileNets


def _mobile_scales(shapes: Shapes) -> tuple[str, ...]:
    """The backbones that a file is for, the first of them by default."""
    names: tuple[str, ...] = ("mnv2-keras", "mnv2-keras-1280")
    width, full = shapes.get("block_16_project/kernel", (0,))[-1], 320
    if _kind(shapes) is MobileNetV1:
        names, width, full = ("mnv1-keras",), shapes["conv1/kernel"][-1], 32
    if width != full:
        raise UserError(
            "of keras.applications' MobileNets those of full width (alpha=1.0) can be read; this "
            f"one has {width} channels where they have {full}"
        )
    return names


def _mobiles(model: keras.Model, shapes: Shapes) -> list[MobileNetV1 | MobileNetV2]:
    scales = _mobile_scales(shapes)
    kind = MobileNetV1 if _kind(shapes) is MobileNetV1 else MobileNetV2
    owners = efficientnet.owners(model, kind)
    found = [owner for owner in owners if owner.backbone.scale in scales]
    if not found:
        have = ", ".join(sorted({owner.backbone.scale for owner in owners}))
        raise UserError(
            f"these weights of keras.applications are for the backbone {' or '.join(scales)}, with "
            f"TensorFlow's padding, the model has {have or 'no MobileNet of that version'}; set "
            f"backbone: {scales[0]}"
        )
    for owner in found:
        efficientnet.check_pixels(owner.normalization, "signed", "keras.applications' MobileNet")
    return [owner.backbone for owner in found]


def _mobile_v1(backbone: MobileNetV1, shapes: Shapes) -> Iterator[CheckpointTensor]:
    yield from _layer("conv1", backbone.stem_conv, shapes)
    yield from _layer("conv1_bn", backbone.stem_bn, shapes)
    for i, unit in enumerate(backbone.units, start=1):
        yield from _layer(f"conv_dw_{i}", unit.depthwise, shapes)
        yield from _layer(f"conv_dw_{i}_bn", unit.depthwise_bn, shapes)
        yield from _layer(f"conv_pw_{i}", unit.pointwise, shapes)
        yield from _layer(f"conv_pw_{i}_bn", unit.bn, shapes)


def _mobile_v2(backbone: MobileNetV2, shapes: Shapes) -> Iterator[CheckpointTensor]:
    yield from _layer("Conv1", backbone.stem_conv, shapes)
    yield from _layer("bn_Conv1", backbone.stem_bn, shapes)
    for i, block in enumerate(backbone.blocks):
        prefix = f"block_{i}" if i else "expanded_conv"
        for name, theirs in (
            ("expansion", "expand"),
            ("depthwise", "depthwise"),
            ("projection", "project"),
        ):
            if getattr(block, name) is not None:
                yield from _layer(f"{prefix}_{theirs}", getattr(block, name), shapes)
                yield from _layer(f"{prefix}_{theirs}_BN", getattr(block, f"{name}_bn"), shapes)
    if backbone.last_conv is not None:
        yield from _layer(_LAST, backbone.last_conv, shapes)
        yield from _layer(f"{_LAST}_bn", backbone.last_bn, shapes)


def _conv_and_norm(
    prefix: str, conv: Any, bn: Any, convert: Convert | None = None
) -> Iterator[CheckpointTensor]:
    kernel = unchanged(f"{prefix}_conv/kernel", conv.kernel)
    yield kernel._replace(convert=convert) if convert else kernel
    yield from _layer(f"{prefix}_bn", bn, {})
    # Behind the moving mean, which it is taken off.
    mean = bn.moving_mean
    yield CheckpointTensor(
        f"{prefix}_conv/bias",
        tuple(mean.shape),
        mean,
        lambda bias: keras.ops.convert_to_numpy(mean) - bias,
    )


def _turned(kernel: np.ndarray) -> np.ndarray:
    """A kernel for red, green, blue from one for blue, green, red."""
    return kernel[:, :, ::-1]


def _layer(name: str, layer: Any, shapes: Shapes) -> Iterator[CheckpointTensor]:
    for variable in layer.variables:
        key = f"{name}/{variable.name}"
        # Keras 2 wrote the kernels of depthwise convolutions under another name.
        old = f"{name}/depthwise_kernel"
        yield unchanged(old if old in shapes and variable.name == "kernel" else key, variable)


SOURCE = Source(
    name="keras_applications",
    title="keras.applications: EfficientNetB0 to B7, ResNet50, 101 and 152, MobileNet, MobileNetV2",
    recognises=_recognises,
    backbone_only=lambda shapes: True,
    settings=_settings,
    entries=_entries,
)
