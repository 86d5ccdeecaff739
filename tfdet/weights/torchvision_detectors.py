"""torchvision's FCOS, RetinaNet, Faster and Mask R-CNN on ResNet-50 with a feature pyramid.

    fcos_resnet50_fpn  retinanet_resnet50_fpn  retinanet_resnet50_fpn_v2
    fasterrcnn_resnet50_fpn  maskrcnn_resnet50_fpn

Names are those of torchvision from 0.13 on and of the files from before, which it renames itself.

torchvision drops the epsilon of the frozen batch norms of the two-stage detectors and of RetinaNet
when it loads its COCO weights (COCO_V1). A file does not say so, but it says whether the norms were
frozen: others count their batches. So files without counters are taken to be without epsilon; one
of a network with frozen norms whose epsilon was never dropped is for a model that was created with
`backbone: r50-3x3`.

Images are padded to multiples of 32 there, each batch by itself. Where a canvas has another size
than that, points and anchors of P6 and P7, whose cells then are other numbers of pixels wide, and
what stands near the borders of the image differ a little.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from tfdet.backbones.catalog import encoding_of
from tfdet.detectors.backbone_detector import BackboneDetector
from tfdet.detectors.faster_rcnn import FasterRCNN
from tfdet.detectors.fcos import FCOS
from tfdet.detectors.mask_rcnn import MaskRCNN
from tfdet.detectors.retinanet import RetinaNet
from tfdet.errors import UserError
from tfdet.weights import parts
from tfdet.weights.checkpoint import CheckpointTensor
from tfdet.weights.source import Model, Shapes

_TITLE = "torchvision"
_BODY = "backbone.body."

_CLASSES: dict[type[BackboneDetector], str] = {
    FCOS: "head.classification_head.cls_logits.bias",
    RetinaNet: "head.classification_head.cls_logits.bias",
    FasterRCNN: "roi_heads.box_predictor.cls_score.bias",
    MaskRCNN: "roi_heads.box_predictor.cls_score.bias",
}
# A tensor that each detector has and those after it have not.
_MARKS: dict[type[BackboneDetector], str] = {
    MaskRCNN: "roi_heads.mask_predictor.mask_fcn_logits.weight",
    FasterRCNN: _CLASSES[FasterRCNN],
    FCOS: "head.regression_head.bbox_ctrness.weight",
    RetinaNet: _CLASSES[RetinaNet],
}
_EXAMPLES = {
    FCOS: "fcos-r50",
    RetinaNet: "retinanet-r50",
    FasterRCNN: "faster-rcnn-r50",
    MaskRCNN: "mask-rcnn-r50",
}
_TWO_STAGE = {"anchor_style": "torchvision", "roi_align": "torchvision", "sampling_ratio": 2}


def recognises(shapes: Shapes) -> bool:
    """Whether a file has one of the detectors."""
    return parts.is_resnet(_BODY, shapes) and any(mark in shapes for mark in _MARKS.values())


def settings(name: Model, shapes: Shapes) -> dict[str, Any]:
    """See `Source`."""
    _refuse_second(shapes)
    kind, owner = _kind(shapes), parts.owner_of(name)
    own = getattr(owner.config, "backbone", None)
    if owner.prefix or type(owner.config) is not kind.config_class:
        raise UserError(
            f"these weights are for a {kind.__name__} of torchvision, and {owner.name} is another "
            f"detector; choose {_EXAMPLES[kind]}"
        )
    classes = {"num_classes": _class_count(kind, shapes) - 1}
    return {**classes, **_function(kind, own, shapes)}


def entries(model: keras.Model, shapes: Shapes) -> list[CheckpointTensor]:
    """See `Source`."""
    _refuse_second(shapes)
    kind = _kind(shapes)
    if type(model) is not kind:
        raise UserError(
            f"these weights are for a {kind.__name__} of torchvision, not for a "
            f"{type(model).__name__}; create a model such as {_EXAMPLES[kind]}"
        )
    wanted = _function(kind, model.config.backbone, shapes)
    if _has_free_epsilon(model, wanted):
        del wanted["backbone"]
    parts.check(model, wanted, _TITLE)
    heads = {FCOS: _fcos, RetinaNet: _retinanet, FasterRCNN: _faster_rcnn, MaskRCNN: _mask_rcnn}
    found = [
        *parts.resnet_tensors(_BODY, model.backbone),
        *_fpn(model.neck, shapes),
        *heads[kind](model, shapes),
    ]
    return parts.existing(found, shapes)


def _kind(shapes: Shapes) -> type[BackboneDetector]:
    """The class of our detector."""
    return next(kind for kind, mark in _MARKS.items() if mark in shapes)


def _refuse_second(shapes: Shapes) -> None:
    if "rpn.head.conv.1.0.weight" in shapes:
        raise UserError(
            "these weights are for torchvision's second Faster or Mask R-CNN (..._v2), whose heads "
            "have more convolutions and batch norms; the garden has the first one"
        )


def _has_free_epsilon(model: BackboneDetector, wanted: dict[str, Any]) -> bool:
    """Whether the model's backbone is the wanted one but for the epsilon that was dropped."""
    return wanted["backbone"] == "r50-3x3-eps0" and encoding_of(
        model.config.backbone
    ) == encoding_of("r50-3x3")


def _class_count(kind: type, shapes: Shapes) -> int:
    """With the background."""
    return shapes[_CLASSES[kind]][0] // (_anchors(shapes) if kind is RetinaNet else 1)


def _anchors(shapes: Shapes) -> int:
    return shapes["head.regression_head.bbox_reg.bias"][0] // 4


def _is_second_retinanet(shapes: Shapes) -> bool:
    """Whether its towers have norms."""
    return "head.classification_head.conv.0.1.weight" in shapes


def _function(kind: type, own: Any, shapes: Shapes) -> dict[str, Any]:
    """Keys of the configuration that make the same function."""
    has_counters = f"{_BODY}bn1.num_batches_tracked" in shapes
    keeps_epsilon = has_counters or kind is FCOS or _is_second_retinanet(shapes)
    epsilon = 1e-5 if keeps_epsilon else 0.0
    backbone = parts.resnet_style(own, _BODY, shapes, _TITLE, strides_first=False, epsilon=epsilon)
    common = {"backbone": backbone, "pixels": "imagenet"}
    if kind in (FasterRCNN, MaskRCNN):
        return {**common, **_TWO_STAGE}
    common |= {"head": "plain", "neck": "fpn", "coarse_from": _coarse_source(shapes)}
    if kind is RetinaNet:
        return {
            **common,
            "head_groups": 32 if _is_second_retinanet(shapes) else 0,
            "anchor_style": "torchvision",
            "nms.iou_threshold": 0.5,
            "nms.max_detections": 300,
        }
    return {
        **common,
        "head_groups": 32,
        "normalize_distances": True,
        "centerness_tower": "box",
        "point_style": "torchvision",
        "nms.iou_threshold": 0.6,
        "nms.class_threshold": 0.0,
        "nms.score_threshold": 0.2,
    }


def _coarse_source(shapes: Shapes) -> str:
    width, inputs = shapes["backbone.fpn.extra_blocks.p6.weight"][:2]
    return "pyramid" if inputs == width else "backbone"


def _fpn(neck: Any, shapes: Shapes) -> Iterator[CheckpointTensor]:
    def names(kind: str) -> list[str]:
        stems = [f"backbone.fpn.{kind}.{i}" for i in range(len(neck.lateral))]
        return [parts.spelled(shapes, stem, f"{stem}.0") for stem in stems]

    coarse = [f"backbone.fpn.extra_blocks.{name.lower()}" for name, x in neck.coarse.items() if x]
    return parts.fpn(names("inner_blocks"), names("layer_blocks"), coarse, neck)


def _without_background(anchors: int) -> parts.Convert:
    """Drops the first class of each anchor."""

    def convert(array: np.ndarray) -> np.ndarray:
        rows = array.reshape(anchors, -1, *array.shape[1:])[:, 1:]
        return rows.reshape(-1, *array.shape[1:])

    return convert


def _background_last(array: np.ndarray) -> np.ndarray:
    return np.roll(array, -1, axis=0)


def _class_codes(array: np.ndarray) -> np.ndarray:
    """Codes of all classes, without those of the background."""
    return parts.codes(array[4:])


def _fcos(model: FCOS, shapes: Shapes) -> Iterator[CheckpointTensor]:
    predictor, count = model.head.predictor, _class_count(FCOS, shapes)
    for tower, name in (("class", "classification"), ("box", "regression")):
        for i, block in enumerate(getattr(predictor, f"{tower}_tower")):
            yield from parts.conv(f"head.{name}_head.conv.{3 * i}", block.conv)
            yield from parts.norm(f"head.{name}_head.conv.{3 * i + 1}", block.norm)
    name = "head.classification_head.cls_logits"
    yield from parts.outputs(name, predictor.class_conv, _without_background(1), count, True)
    yield from parts.conv("head.regression_head.bbox_reg", predictor.box_conv)
    yield from parts.conv("head.regression_head.bbox_ctrness", predictor.centerness_conv)
    # Its distances have no factors.
    yield parts.fixed("head.regression_head.bbox_reg.bias", (4,), model.head.scales, 1.0)


def _retinanet(model: RetinaNet, shapes: Shapes) -> Iterator[CheckpointTensor]:
    predictor, anchors = model.head.predictor, _anchors(shapes)
    for tower, name in (("class", "classification"), ("box", "regression")):
        stem = f"head.{name}_head.conv"
        for i, block in enumerate(getattr(predictor, f"{tower}_tower")):
            if block.norm is None:
                conv = parts.spelled(shapes, f"{stem}.{i}.0", f"{stem}.{2 * i}")
                yield from parts.conv(conv, block.conv)
            else:
                yield from _without_bias(f"{stem}.{i}", block)
    count = anchors * _class_count(RetinaNet, shapes)
    name = "head.classification_head.cls_logits"
    drop = _without_background(anchors)
    yield from parts.outputs(name, predictor.class_conv, drop, count, True)
    name = "head.regression_head.bbox_reg"
    yield from parts.outputs(name, predictor.box_conv, parts.weighted_codes, 4 * anchors)


def _without_bias(prefix: str, block: Any) -> Iterator[CheckpointTensor]:
    """A convolution that has no bias there, since a norm follows."""
    weight, *_ = parts.conv(f"{prefix}.0", block.conv)
    yield weight
    bias = block.conv.bias
    yield parts.fixed(f"{prefix}.1.bias", bias.shape, bias, 0.0)
    yield from parts.norm(f"{prefix}.1", block.norm)


def _faster_rcnn(model: FasterRCNN, shapes: Shapes) -> Iterator[CheckpointTensor]:
    rpn, head, count = model.rpn, model.box_head, _class_count(FasterRCNN, shapes)
    yield from parts.conv(parts.spelled(shapes, "rpn.head.conv", "rpn.head.conv.0.0"), rpn.conv)
    yield from parts.conv("rpn.head.cls_logits", rpn.objectness)
    codes = 4 * rpn.anchors_per_cell
    yield from parts.outputs("rpn.head.bbox_pred", rpn.codes, parts.codes, codes)
    first, second = head.dense
    yield from parts.first_dense("roi_heads.box_head.fc6", first, model.config.fpn_width)
    yield from parts.dense("roi_heads.box_head.fc7", second)
    name = "roi_heads.box_predictor"
    yield from parts.outputs(f"{name}.cls_score", head.class_dense, _background_last, count, True)
    yield from parts.outputs(f"{name}.bbox_pred", head.box_dense, _class_codes, 4 * count, True)


def _mask_rcnn(model: MaskRCNN, shapes: Shapes) -> Iterator[CheckpointTensor]:
    yield from _faster_rcnn(model, shapes)
    head, name = model.mask_head, "roi_heads.mask_head"
    for i, layer in enumerate(head.convs):
        yield from parts.conv(
            parts.spelled(shapes, f"{name}.mask_fcn{i + 1}", f"{name}.{i}.0"), layer
        )
    name = "roi_heads.mask_predictor"
    yield from parts.transposed(f"{name}.conv5_mask", head.enlarge)
    count = _class_count(MaskRCNN, shapes)
    yield from parts.outputs(
        f"{name}.mask_fcn_logits", head.predict, _without_background(1), count, True
    )
