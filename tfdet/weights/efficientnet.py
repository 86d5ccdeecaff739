"""EfficientNets within a model by layer, for checkpoints that name layers each in its own way."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from tfdet.backbones import efficientnet
from tfdet.backbones.catalog import encoding_of
from tfdet.backbones.efficientnet import EfficientNet, own_activation
from tfdet.backbones.encoding import Encoding
from tfdet.detectors.backbone_detector import BackboneDetector
from tfdet.detectors.cascade_config import CascadeConfig
from tfdet.detectors.efficientdet import EfficientDetConfig
from tfdet.detectors.second_backbone import SecondBackbone
from tfdet.errors import UserError
from tfdet.layers.image_normalization import PIXELS, ImageNormalization
from tfdet.layers.mbconv import MBConv
from tfdet.weights.checkpoint import CheckpointTensor, batch_norm, kernel, vector
from tfdet.weights.source import Model, config_of, name_of

# Roles of layers: of the stem, and of a block.
STEM = ("stem_conv", "stem_bn")


class Part(NamedTuple):
    """A layer with weights.

    Attributes:
        role: "stem_conv", "stem_bn"; of a block "expand_conv", "expand_bn", "depthwise_conv",
            "depthwise_bn", "se_reduce", "se_expand", "project_conv" or "project_bn".
        stage, repeat: of its block, from 0; -1 of the stem.
        block: number of the block among all, from 0; -1 of the stem.
        layer: a convolution or a batch norm.
    """

    role: str
    stage: int
    repeat: int
    block: int
    layer: keras.layers.Layer


def parts(backbone: EfficientNet) -> Iterator[Part]:
    """All layers with weights, from the stem to the last block."""
    for role in STEM:
        yield Part(role, -1, -1, -1, getattr(backbone, role))
    places = [
        (stage, repeat)
        for stage, row in enumerate(backbone.stages)
        for repeat in range(row.repeats)
    ]
    for number, ((stage, repeat), block) in enumerate(zip(places, backbone.blocks, strict=True)):
        for role, layer in _layers(block):
            yield Part(role, stage, repeat, number, layer)


def _layers(block: MBConv) -> Iterator[tuple[str, keras.layers.Layer]]:
    if block.expand_conv is not None:
        yield "expand_conv", block.expand_conv
        yield "expand_bn", block.expand_bn
    yield "depthwise_conv", block.depthwise_conv
    yield "depthwise_bn", block.depthwise_bn
    if block.se is not None:
        yield "se_reduce", block.se.reduce
        yield "se_expand", block.se.expand
    yield "project_conv", block.project_conv
    yield "project_bn", block.project_bn


def pytorch_tensors(prefix: str, layer: Any) -> Iterator[CheckpointTensor]:
    """What PyTorch stores of a convolution or a batch norm."""
    if isinstance(layer, keras.layers.BatchNormalization):
        yield from batch_norm(prefix, layer)
        return
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        height, width, channels, _ = layer.kernel.shape
        yield CheckpointTensor(f"{prefix}.weight", (channels, 1, height, width), layer.kernel)
    else:
        yield kernel(f"{prefix}.weight", layer)
    if layer.use_bias:
        yield vector(f"{prefix}.bias", layer.bias)


def scale_of(blocks: int, stem: int, last: int, is_lite: bool) -> str | None:
    """The published scale of these counts, "b0" to "lite4"; None if there is none.

    Args:
        blocks: in all stages.
        stem, last: channels of the stem and of the last block.
        is_lite: without squeeze and excite.
    """
    for scale in efficientnet.SCALES:
        stages = efficientnet.stages(scale)
        found = (sum(row.repeats for row in stages), efficientnet.stem_filters(scale))
        wanted = (*found, stages[-1].filters, efficientnet.is_lite(scale))
        if wanted == (blocks, stem, last, is_lite) and scale[0] in "bl":
            return scale
    return None


def settings(model: Model, backbone: str | Encoding, pixels: str) -> dict[str, Any]:
    """Keys that give a model this backbone; both of a cascade's detectors."""
    config, name = config_of(model), name_of(model)
    if isinstance(config, CascadeConfig):
        keys: dict[str, Any] = {}
        for role in ("first", "second"):
            part = config.second_backbone if role == "second" and config.shared_heads else None
            found = _settings(name, part or config.part(role)[1], backbone, pixels)
            keys |= {f"{role}.{key}": value for key, value in found.items()}
        return keys
    return _settings(name, config, backbone, pixels)


def _settings(name: str, config: Any, backbone: str | Encoding, pixels: str) -> dict[str, Any]:
    known = vars(config)
    if "backbone" not in known:
        raise UserError(
            f"{name} has no key `backbone`, which these weights of a backbone alone need"
        )
    keys: dict[str, Any] = {"backbone": backbone, "pixels": pixels}
    if backbone in efficientnet.SCALES:
        keys["activation"] = own_activation(backbone)
    elif isinstance(config, EfficientDetConfig):
        raise UserError(f"{name} takes EfficientNets, the weights are of another backbone")
    if encoding_of(backbone) is None:
        keys["frozen_stages"] = 0
    return {key: value for key, value in keys.items() if key in known}


def owners(model: keras.Model, kind: type) -> list[Any]:
    """The detectors and second backbones within a model whose `backbone` is of a class."""
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, (BackboneDetector, SecondBackbone))
        and isinstance(layer.backbone, kind)
    ]


def backbones(model: keras.Model, scale: str, pixels: str, title: str) -> list[EfficientNet]:
    """The EfficientNets of this scale in a model; a `UserError` where they are another function.

    Args:
        model: a detector, or a cascade of detectors.
        scale: of the checkpoint.
        pixels: what the checkpoint's network takes, a key of `PIXELS`.
        title: of the checkpoint, for messages.
    """
    have = owners(model, EfficientNet)
    found = [owner for owner in have if owner.backbone.scale == scale]
    if not found:
        scales = ", ".join(sorted({owner.backbone.scale for owner in have})) or "no EfficientNet"
        raise UserError(
            f"the weights are of {title} {scale}, the model has {scales}; set backbone: {scale}"
        )
    for owner in found:
        _check_activation(owner.backbone, title)
        check_pixels(owner.normalization, pixels, f"{title} {scale}")
    return [owner.backbone for owner in found]


def _check_activation(backbone: EfficientNet, title: str) -> None:
    wanted = own_activation(backbone.scale)
    if backbone.activation != wanted:
        raise UserError(
            f"{title} {backbone.scale} has the activation {wanted}, the model's is "
            f"{backbone.activation}: another function; set activation: {wanted}"
        )


def check_pixels(normalization: ImageNormalization, pixels: str, title: str) -> None:
    """Refuses a model whose images are not normalised as `pixels`, a key of `PIXELS`, says."""
    found = (normalization.mean, normalization.std)
    if found != PIXELS[pixels]:
        mean, std = PIXELS[pixels]
        raise UserError(
            f"{title} takes (pixel - {_row(mean)}) / {_row(std)}, the model's is "
            f"(pixel - {_row(found[0])}) / {_row(found[1])}: another function; set pixels: {pixels}"
        )


def _row(values: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"
