"""Losses of box regression."""

import math
from typing import Literal, get_args

from keras import ops

from tfdet.ops import boxes as box_ops

IoUKind = Literal["iou", "giou", "diou", "ciou"]
IOU_KINDS = get_args(IoUKind)
_EPSILON = 1e-8


def huber_loss(codes, target_codes, delta: float = 0.1, is_counted=None):
    """Sum of the Huber losses of box codes [..., 4].

    `is_counted` says which components count. None leaves out those whose target is exactly 0: that
    is how background is marked (all four are 0), and it is what EfficientDet's training does.
    """
    error = ops.abs(codes - target_codes)
    loss = ops.where(error <= delta, 0.5 * ops.square(error), delta * error - 0.5 * delta**2)
    is_counted = target_codes != 0 if is_counted is None else is_counted
    return ops.sum(ops.where(is_counted, loss, 0.0))


def iou_loss(boxes_xyxy, target_xyxy, kind: IoUKind = "iou"):
    """1 - IoU of paired boxes [..., 4] -> [...], or its form giou, diou or ciou.

    GIoU: https://arxiv.org/abs/1902.09630. DIoU and CIoU: https://arxiv.org/abs/1911.08287; the
    weight of CIoU's aspect term counts as a constant in the gradient, as in the paper. The paper's
    other shortcut (dropping 1 / (w^2 + h^2)) is for boxes in [0, 1]; in pixels the exact gradient
    is the stable one.
    """
    predicted, target = box_ops.sides(boxes_xyxy), box_ops.sides(target_xyxy)
    shared = box_ops.intersection(predicted, target)
    union = predicted.area + target.area - shared
    iou = shared / ops.maximum(union, _EPSILON)
    if kind == "iou":
        return 1.0 - iou
    width = ops.maximum(predicted.right, target.right) - ops.minimum(predicted.left, target.left)
    height = ops.maximum(predicted.bottom, target.bottom) - ops.minimum(predicted.top, target.top)
    if kind == "giou":
        hull = width * height
        return 1.0 - iou + (hull - union) / ops.maximum(hull, _EPSILON)
    diagonal = ops.square(width) + ops.square(height)
    distance = _center_distance(predicted, target) / ops.maximum(diagonal, _EPSILON)
    if kind == "diou":
        return 1.0 - iou + distance
    aspect = _aspect_term(predicted, target)
    weight = ops.stop_gradient(aspect / ops.maximum(1.0 - iou + aspect, _EPSILON))
    return 1.0 - iou + distance + weight * aspect


def _center_distance(a, b):
    """Squared distance of the centres."""
    x = a.left + a.right - b.left - b.right
    y = a.top + a.bottom - b.top - b.bottom
    return 0.25 * (ops.square(x) + ops.square(y))


def _aspect_term(a, b):
    """(2 / pi * difference of the diagonals' angles)^2, in [0, 1]."""
    difference = _angle(a) - _angle(b)
    return (2.0 / math.pi) ** 2 * ops.square(difference)


def _angle(box):
    """atan(width / height); empty boxes have a finite angle and gradient."""
    width = ops.maximum(box.right - box.left, 0.0)
    height = ops.maximum(box.bottom - box.top, _EPSILON)
    return ops.arctan(width / height)
