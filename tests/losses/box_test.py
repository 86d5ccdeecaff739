import numpy as np
import pytest
import tensorflow as tf

from tfdet.losses.box import IOU_KINDS, huber_loss, iou_loss


def random_pairs(seed, count=20):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 40, (2, count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 60, (2, count, 2))], axis=-1)
    return boxes[0].astype(np.float32), boxes[1].astype(np.float32)


def gradient_of(kind, boxes, target):
    boxes = tf.constant(boxes)
    with tf.GradientTape() as tape:
        tape.watch(boxes)
        loss = iou_loss(boxes, target, kind)
    return tape.gradient(loss, boxes).numpy()


def test_huber_published_value():
    target, codes = np.float32([0.05, 0.5, 0, -0.3]), np.float32([0, 0.2, 9, -0.35])
    np.testing.assert_allclose(huber_loss(codes, target, delta=0.1) / (2 * 4), 0.0034375, rtol=1e-5)


def test_huber_leaves_out_zero_targets():
    assert float(huber_loss(np.full((3, 4), 7, np.float32), np.zeros((3, 4), np.float32))) == 0


def test_huber_of_nothing_is_zero():
    assert float(huber_loss(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32))) == 0


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("iou", 0.74074), ("giou", 0.84074), ("diou", 0.81843), ("ciou", 0.81864)],
)
def test_iou_published_values(kind, expected):
    loss = iou_loss(np.float32([0, 0, 10, 10]), np.float32([5, 2, 15, 9]), kind)
    np.testing.assert_allclose(loss, expected, atol=1e-5)


@pytest.mark.parametrize("kind", IOU_KINDS)
def test_zero_for_equal_boxes(kind):
    boxes, _ = random_pairs(0)
    np.testing.assert_allclose(iou_loss(boxes, boxes, kind), np.zeros(20), atol=1e-6)


@pytest.mark.parametrize("kind", IOU_KINDS)
def test_does_not_change_with_the_unit(kind):
    boxes, targets = random_pairs(1)
    np.testing.assert_allclose(
        iou_loss(boxes, targets, kind),
        iou_loss(boxes * 16, targets * 16, kind),
        rtol=1e-4,
        atol=1e-6,
    )


def test_order_of_the_forms():
    boxes, targets = random_pairs(2)
    iou, giou, diou, ciou = (np.array(iou_loss(boxes, targets, kind)) for kind in IOU_KINDS)
    assert (iou <= 1).all() and (giou >= iou - 1e-6).all()
    assert (diou >= iou).all() and (ciou >= diou).all()


@pytest.mark.parametrize("kind", ["iou", "giou", "diou"])
def test_gradient_equals_the_difference_quotient(kind):
    boxes, targets = random_pairs(3, count=6)
    step, numeric = 0.02, np.zeros((6, 4))
    for side in range(4):
        shift = np.zeros(4, np.float32)
        shift[side] = step
        ahead = iou_loss(boxes + shift, targets, kind)
        numeric[:, side] = np.array(ahead - iou_loss(boxes - shift, targets, kind)) / (2 * step)
    np.testing.assert_allclose(gradient_of(kind, boxes, targets), numeric, atol=5e-4)


def test_ciou_pulls_towards_the_aspect_ratio():
    # Same centre and area: the aspect term asks for a wider box than DIoU does.
    box, target = np.float32([[20, 0, 40, 80]]), np.float32([[0, 20, 80, 40]])
    ciou, diou = gradient_of("ciou", box, target), gradient_of("diou", box, target)
    assert ciou[0, 2] - ciou[0, 0] < diou[0, 2] - diou[0, 0]


@pytest.mark.parametrize("kind", IOU_KINDS)
@pytest.mark.parametrize(
    "box", [[5, 5, 5, 5], [9, 9, 2, 2], [500, 500, 600, 600], [0, 0, 1e4, 1e-3]]
)
def test_degenerate_and_distant_boxes_stay_finite(kind, box):
    boxes, target = np.float32([box]), np.float32([[0, 0, 10, 10]])
    assert np.isfinite(iou_loss(boxes, target, kind)).all()
    assert np.isfinite(gradient_of(kind, boxes, target)).all()
