import numpy as np
import pytest

from tfdet.losses.rpn import RPNLossConfig, rpn_loss_terms
from tfdet.ops import boxes as box_ops
from tfdet.ops.anchors import AnchorConfig, anchors

ANCHORS = anchors(AnchorConfig(2, 6, 1, (2.0, 1.0, 0.5), 4.0, style="corner"), (64, 64))
BOXES = np.array([[[8, 8, 24, 24], [20, 10, 60, 62]], [[0, 0, 0, 0]] * 2], np.float32)
TARGETS = {"boxes": BOXES, "labels": np.array([[1, 2], [-1, -1]], np.int32)}


def raw(logit=0.0, code=0.0):
    count = len(ANCHORS)
    return {
        "objectness_logits": np.full((2, count), logit, np.float32),
        "anchor_codes": np.full((2, count, 4), code, np.float32),
    }


def terms(raw, targets=TARGETS, **changes):
    found = rpn_loss_terms(targets, raw, ANCHORS, RPNLossConfig(samples=40, **changes), (0, 1))
    return {name: float(value) for name, value in found.items()}


def test_undecided_predictions_cost_log_two():
    assert terms(raw())["objectness_loss"] == pytest.approx(np.log(2), rel=1e-5)


def test_perfect_predictions_cost_nothing():
    iou = np.array(box_ops.iou(BOXES[0], ANCHORS))
    is_positive = (iou >= 0.7) | ((iou == iou.max(1, keepdims=True)) & (iou >= 0.3))
    perfect = raw(-30.0)
    for row in np.flatnonzero(is_positive.any(0)):
        perfect["objectness_logits"][0, row] = 30
        code = box_ops.encode(BOXES[0, iou[:, row].argmax()], ANCHORS[row])
        perfect["anchor_codes"][0, row] = code
    assert terms(perfect) == pytest.approx({"objectness_loss": 0, "anchor_loss": 0}, abs=1e-5)
    perfect["anchor_codes"] += 0.5
    # Both images have 40 samples; all positives are among them.
    expected = 4 * 0.5 * is_positive.any(0).sum() / 80
    assert terms(perfect)["anchor_loss"] == pytest.approx(expected, rel=1e-4)


def test_empty_targets_teach_the_background_alone():
    empty = {"boxes": BOXES[1:], "labels": np.array([[-1, -1]], np.int32)}
    one = {name: value[1:] for name, value in raw(2.0, 3.0).items()}
    assert terms(one, empty)["anchor_loss"] == 0
    assert terms(one, empty)["objectness_loss"] == pytest.approx(np.log1p(np.exp(2)), rel=1e-5)


def test_crowds_are_background():
    crowd = {**TARGETS, "is_crowd": np.array([[True, True], [False, False]])}
    assert terms(raw(0.0, 3.0), crowd)["anchor_loss"] == 0
    assert terms(raw(0.0, 3.0), crowd, skip_crowd=False)["anchor_loss"] > 0
