"""mmdetection's weights, from version 2 on: FCOS, RetinaNet, Faster and Mask R-CNN; backbones.

Its ResNets come in two styles, whose files have the same names and shapes. This source has the
style "pytorch", `weights.mmdet_caffe` the style "caffe": the word is in the names of the files, and
FCOS on ResNet-50 and -101 are "caffe", but for those with "lsj-200e". Which of the two a file is
has to be said, "mmdet:FILE" or "mmdet_caffe:FILE". Swins are recognised, and so are ResNeXts, whose
groups no file of the style "caffe" has.

Of FCOS, the improved one ("normbbox-centeronreg" in the name of a file) is known by the biases of
its towers, which all released ones have and the first FCOS has not.

Scores of FCOS are the probability of the class times the centerness there, and the root of that
here: equal detections in the same order.

Files of mmpretrain's ResNets and Swins have these names too; their classifiers are unused.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from tfdet.backbones.resnet import ResNet
from tfdet.backbones.swin import STYLES as SWIN_STYLES
from tfdet.backbones.swin import Swin
from tfdet.detectors.backbone_detector import BackboneDetector
from tfdet.detectors.faster_rcnn import FasterRCNN
from tfdet.detectors.fcos import FCOS
from tfdet.detectors.mask_rcnn import MaskRCNN
from tfdet.detectors.retinanet import RetinaNet
from tfdet.errors import UserError
from tfdet.layers.image_normalization import IMAGENET_STD
from tfdet.weights import parts
from tfdet.weights.checkpoint import CheckpointTensor, kernel
from tfdet.weights.source import Model, Shapes, Source

_TITLE = "mmdetection"
_BODY = "backbone."
_FIRST_SWIN = "backbone.stages.0.blocks.0.attn.w_msa.qkv.weight"
_EXAMPLES = {
    FCOS: "fcos-r50",
    RetinaNet: "retinanet-r50",
    FasterRCNN: "faster-rcnn-r50",
    MaskRCNN: "mask-rcnn-r50",
}


class Style(NamedTuple):
    """What the ResNets of a file are.

    Attributes:
        strides_first: see `backbones.encoding.Encoding`.
        pixels: of the first FCOS or of all else, a key of `PIXELS`.
        stem: the first convolution of such a network as ours.
    """

    strides_first: bool
    pixels: Callable[[bool], str]
    stem: Callable[[bool, CheckpointTensor], CheckpointTensor]


PYTORCH = Style(False, lambda is_first_fcos: "imagenet", lambda is_first_fcos, tensor: tensor)


def _caffe_stem(is_first_fcos: bool, tensor: CheckpointTensor) -> CheckpointTensor:
    """Reads blue, green, red; but for the first FCOS, of pixels less ImageNet's mean, not divided.

    Ours are divided, so that the kernel is multiplied. Zeros around the image are the same.
    """
    if is_first_fcos:
        return parts.turned(tensor)
    scale = np.array(IMAGENET_STD, np.float32)[:, None, None]
    return tensor._replace(convert=lambda x: (x[:, ::-1] * scale).transpose(2, 3, 1, 0))


CAFFE = Style(True, lambda is_first_fcos: "detectron" if is_first_fcos else "imagenet", _caffe_stem)


def source(name: str, title: str, style: Style) -> Source:
    """The source of the files of one style."""

    def recognises(shapes: Shapes) -> bool:
        if not has_backbone(shapes):
            return False
        return not style.strides_first or is_plain_resnet(shapes)

    return Source(
        name=name,
        title=title,
        recognises=recognises,
        backbone_only=backbone_only,
        settings=lambda model, shapes: settings(model, shapes, style),
        entries=lambda model, shapes: entries(model, shapes, style),
        new=new,
    )


def has_backbone(shapes: Shapes) -> bool:
    """Whether a file has a ResNet or a Swin by these names."""
    return parts.is_resnet(_BODY, shapes) or _FIRST_SWIN in shapes


def is_plain_resnet(shapes: Shapes) -> bool:
    """Whether it has a ResNet without groups, which may be of either style."""
    shape = shapes.get("backbone.layer1.0.conv2.weight")
    return shape is not None and shape[0] == shape[1]


def backbone_only(shapes: Shapes) -> bool:
    """See `Source`."""
    return _kind(shapes) is None


def settings(model: Model, shapes: Shapes, style: Style = PYTORCH) -> dict[str, Any]:
    """See `Source`."""
    owner, kind = parts.owner_of(model), _kind(shapes)
    if kind is not None and (owner.prefix or type(owner.config) is not kind.config_class):
        raise UserError(
            f"these weights are for a {kind.__name__} of mmdetection, and {owner.name} is another "
            f"detector; choose {_EXAMPLES[kind]}"
        )
    own = parts.own_backbone(owner, _TITLE)
    if kind is None:
        found = _backbone_keys(None, own, shapes, style)
        return {f"{owner.prefix}{key}": value for key, value in found.items()}
    found = {"num_classes": _class_count(kind, shapes), **_function(kind, own, shapes, style)}
    if kind is FCOS:
        is_first = _is_first_fcos(kind, shapes)
        found["normalize_distances"] = not is_first
        found["centerness_tower"] = "class" if is_first else "box"
    return found


def entries(model: keras.Model, shapes: Shapes, style: Style = PYTORCH) -> list[CheckpointTensor]:
    """See `Source`."""
    kind, owner = _kind(shapes), parts.backbone_owner(model, _TITLE)
    own = owner.config.backbone
    if kind is None:
        parts.check(owner, _backbone_keys(None, own, shapes, style), _TITLE)
        found = [*_backbone(None, owner.backbone, shapes, style)]
        return [*parts.existing(found, shapes), *parts.unused(shapes, "head.")]
    if type(model) is not kind:
        raise UserError(
            f"these weights are for a {kind.__name__} of mmdetection, not for a "
            f"{type(model).__name__}; create a model such as {_EXAMPLES[kind]}"
        )
    parts.check(model, _function(kind, own, shapes, style), _TITLE)
    heads = {FCOS: _fcos, RetinaNet: _retinanet, FasterRCNN: _faster_rcnn, MaskRCNN: _mask_rcnn}
    found = [
        *_backbone(kind, model.backbone, shapes, style),
        *_fpn(model.neck),
        *heads[kind](model, shapes),
    ]
    return parts.existing(found, shapes)


def new(model: keras.Model, shapes: Shapes) -> list[keras.Variable]:
    """A Swin's norms of levels that a classifier's file does not have."""
    owner = parts.backbone_owner(model, _TITLE)
    if not isinstance(owner.backbone, Swin):
        return []
    norms = owner.backbone.norms.items()
    return [v for level, x in norms if not _has_norm(level, shapes) for v in x.weights]


def _kind(shapes: Shapes) -> type[BackboneDetector] | None:
    """The class of our detector; None of files that have a backbone alone."""
    if "roi_head.mask_head.conv_logits.weight" in shapes:
        return MaskRCNN
    if "roi_head.bbox_head.fc_cls.weight" in shapes:
        return FasterRCNN
    if "bbox_head.retina_cls.weight" in shapes:
        return RetinaNet
    return FCOS if "bbox_head.scales.0.scale" in shapes else None


def _class_count(kind: type, shapes: Shapes) -> int:
    if kind is RetinaNet:
        return shapes["bbox_head.retina_cls.bias"][0] // _anchors(shapes)
    if kind is FCOS:
        return shapes[f"{_fcos_name(shapes, 'cls')}.bias"][0]
    return shapes["roi_head.bbox_head.fc_cls.bias"][0] - 1  # the background is the last one


def _anchors(shapes: Shapes) -> int:
    return shapes["bbox_head.retina_reg.bias"][0] // 4


def _fcos_name(shapes: Shapes, part: str) -> str:
    """Of a predictor; first releases call it otherwise."""
    return parts.spelled(shapes, f"bbox_head.fcos_{part}", f"bbox_head.conv_{part}")


def _backbone_keys(kind: type | None, own: Any, shapes: Shapes, style: Style) -> dict[str, Any]:
    if _FIRST_SWIN in shapes:
        found = _swin_name(shapes)
        if own != found:
            raise UserError(
                f"these weights of mmdetection are for the backbone {found or 'of another Swin'}, "
                f"and the model's is {own if isinstance(own, str) else 'a ResNet'}; choose a model "
                "with that backbone"
            )
        return {"backbone": own, "pixels": "imagenet"}
    habits = {"strides_first": style.strides_first, "epsilon": 1e-5}
    backbone = parts.resnet_style(own, _BODY, shapes, _TITLE, **habits)
    return {"backbone": backbone, "pixels": style.pixels(_is_first_fcos(kind, shapes))}


def _is_first_fcos(kind: type | None, shapes: Shapes) -> bool:
    """Convolutions of towers before a norm have biases in the improved one alone."""
    return kind is FCOS and "bbox_head.cls_convs.0.conv.bias" not in shapes


def _swin_name(shapes: Shapes) -> str | None:
    repeats = tuple(
        len({x.split(".")[4] for x in shapes if x.startswith(f"backbone.stages.{stage}.blocks.")})
        for stage in range(4)
    )
    filters = shapes["backbone.patch_embed.projection.weight"][0]
    names = (n for n, s in SWIN_STYLES.items() if (s.repeats, s.filters) == (repeats, filters))
    return next(names, None)


def _function(kind: type, own: Any, shapes: Shapes, style: Style) -> dict[str, Any]:
    """Keys of the configuration that make the same function."""
    common = _backbone_keys(kind, own, shapes, style)
    if kind in (FasterRCNN, MaskRCNN):
        return {**common, "anchor_style": "corner", "roi_align": "aligned", "sampling_ratio": 0}
    common |= {"head": "plain", "neck": "fpn", "nms.iou_threshold": 0.5}
    if kind is FCOS:
        return {**common, "coarse_from": "pyramid", "head_groups": 32, "point_style": "mmdet"}
    return {
        **common,
        "coarse_from": "backbone",
        "coarse_relu": False,
        "head_groups": 0,
        "anchor_style": "corner",
    }


def _backbone(
    kind: type | None, backbone: Any, shapes: Shapes, style: Style
) -> Iterator[CheckpointTensor]:
    if isinstance(backbone, ResNet):
        is_first_fcos = _is_first_fcos(kind, shapes)
        for tensor in parts.resnet_tensors(_BODY, backbone):
            is_stem = tensor.name == f"{_BODY}conv1.weight"
            yield style.stem(is_first_fcos, tensor) if is_stem else tensor
    else:
        yield from _swin(backbone, shapes)


def _swin(backbone: Swin, shapes: Shapes) -> Iterator[CheckpointTensor]:
    yield from parts.conv("backbone.patch_embed.projection", backbone.patches)
    yield from parts.norm("backbone.patch_embed.norm", backbone.patch_norm)
    for stage, blocks in enumerate(backbone.stages):
        for i, block in enumerate(blocks):
            yield from parts.swin_block(
                f"backbone.stages.{stage}.blocks.{i}",
                block,
                shapes,
                "attn.w_msa",
                "ffn.layers.0.0",
                "ffn.layers.1",
            )
    for stage, merge in enumerate(backbone.merges):
        prefix = f"backbone.stages.{stage}.downsample"
        for tensor in parts.norm(f"{prefix}.norm", merge.norm):
            yield tensor._replace(convert=_corners)
        reduction = parts.dense_kernel(f"{prefix}.reduction.weight", merge.reduce)
        yield reduction._replace(convert=lambda x: _corners(x).T)
    for level, norm in backbone.norms.items():
        if _has_norm(level, shapes):
            yield from parts.norm(f"backbone.norm{level - 2}", norm)


def _has_norm(level: int, shapes: Shapes) -> bool:
    return f"backbone.norm{level - 2}.weight" in shapes


def _corners(array: np.ndarray) -> np.ndarray:
    """The last axis of [..., C * rows * columns] as [..., columns * rows * C], of 2x2 cells."""
    cells = array.reshape(*array.shape[:-1], -1, 2, 2)
    return np.swapaxes(cells, -1, -3).reshape(array.shape)


def _fpn(neck: Any) -> Iterator[CheckpointTensor]:
    count = len(neck.lateral)
    added = [name for name, x in neck.coarse.items() if x is not None]
    return parts.fpn(
        [f"neck.lateral_convs.{i}.conv" for i in range(count)],
        [f"neck.fpn_convs.{i}.conv" for i in range(count)],
        [f"neck.fpn_convs.{count + i}.conv" for i in range(len(added))],
        neck,
    )


def _towers(predictor: Any, shapes: Shapes) -> Iterator[CheckpointTensor]:
    for name, tower in (("cls", predictor.class_tower), ("reg", predictor.box_tower)):
        for i, block in enumerate(tower):
            prefix = f"bbox_head.{name}_convs.{i}"
            if block.deformable:
                yield from parts.deformable(f"{prefix}.conv", block.conv)
            elif f"{prefix}.conv.bias" in shapes:
                yield from parts.conv(f"{prefix}.conv", block.conv)
            else:  # a norm follows
                yield kernel(f"{prefix}.conv.weight", block.conv)
                bias = block.conv.bias
                yield parts.fixed(f"{prefix}.gn.bias", bias.shape, bias, 0.0)
            if block.norm is not None:
                yield from parts.norm(f"{prefix}.gn", block.norm)


def _fcos(model: FCOS, shapes: Shapes) -> Iterator[CheckpointTensor]:
    predictor: Any = model.head.predictor
    yield from _towers(predictor, shapes)
    for tensor in parts.conv(_fcos_name(shapes, "cls"), predictor.class_conv):
        yield tensor._replace(per_class=True)
    yield from parts.conv(_fcos_name(shapes, "reg"), predictor.box_conv)
    yield from parts.conv(_fcos_name(shapes, "centerness"), predictor.centerness_conv)
    name = "bbox_head.scales.{}.scale"
    yield from parts.numbers(name, tuple(shapes[name.format(0)]), model.head.scales)


def _retinanet(model: RetinaNet, shapes: Shapes) -> Iterator[CheckpointTensor]:
    predictor: Any = model.head.predictor
    yield from _towers(predictor, shapes)
    anchors, scales = _anchors(shapes), model.config.num_scales
    count = anchors * _class_count(RetinaNet, shapes)

    def by_scale(array: np.ndarray) -> np.ndarray:
        """Outputs by ratio, then scale, as by scale, then ratio."""
        rows = array.reshape(-1, scales, array.shape[0] // anchors, *array.shape[1:])
        return np.swapaxes(rows, 0, 1).reshape(array.shape)

    def codes(array: np.ndarray) -> np.ndarray:
        return parts.weighted_codes(by_scale(array))

    name = "bbox_head.retina_cls"
    yield from parts.outputs(name, predictor.class_conv, by_scale, count, True)
    yield from parts.outputs("bbox_head.retina_reg", predictor.box_conv, codes, 4 * anchors)


def _faster_rcnn(model: FasterRCNN, shapes: Shapes) -> Iterator[CheckpointTensor]:
    rpn, head = model.rpn, model.box_head
    yield from parts.conv("rpn_head.rpn_conv", rpn.conv)
    yield from parts.conv("rpn_head.rpn_cls", rpn.objectness)
    outputs = 4 * rpn.anchors_per_cell
    yield from parts.outputs("rpn_head.rpn_reg", rpn.codes, parts.codes, outputs)
    name, (first, second) = "roi_head.bbox_head", head.dense
    yield from parts.first_dense(f"{name}.shared_fcs.0", first, model.config.fpn_width)
    yield from parts.dense(f"{name}.shared_fcs.1", second)
    for tensor in parts.dense(f"{name}.fc_cls", head.class_dense):
        yield tensor._replace(per_class=True)
    count = 4 * _class_count(FasterRCNN, shapes)
    yield from parts.outputs(f"{name}.fc_reg", head.box_dense, parts.codes, count, True)


def _mask_rcnn(model: MaskRCNN, shapes: Shapes) -> Iterator[CheckpointTensor]:
    yield from _faster_rcnn(model, shapes)
    head, name = model.mask_head, "roi_head.mask_head"
    for i, layer in enumerate(head.convs):
        yield from parts.conv(f"{name}.convs.{i}.conv", layer)
    yield from parts.transposed(f"{name}.upsample", head.enlarge)
    for tensor in parts.conv(f"{name}.conv_logits", head.predict):
        yield tensor._replace(per_class=True)


SOURCE = source("mmdet", _TITLE, PYTORCH)
