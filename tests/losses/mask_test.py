import numpy as np
import pytest

from tfdet.losses.mask import mask_loss_term, target_masks
from tfdet.losses.roi import Samples

BOX = np.float32([[[0, 0, 16, 16], [8, 8, 24, 40]]])


def samples(boxes, labels, objects):
    labels = np.array([labels], np.int32)
    boxes = np.float32([boxes])
    rows = np.array([objects], np.int32)
    return Samples(boxes, labels, boxes, rows, labels >= -1)


def targets():
    masks = np.zeros((1, 2, 8, 8), np.uint8)
    masks[0, 0, :, :4] = 1  # the left half
    masks[0, 1] = 1
    return {"boxes": BOX, "masks": masks}


def test_targets_are_what_a_sample_sees_of_its_object():
    chosen = samples(
        [[0, 0, 16, 16], [4, 0, 12, 8], [8, 24, 24, 56], [0, 0, 9, 9]], [1, 0, 2, -1], [0, 0, 1, -1]
    )
    found = np.array(target_masks(targets(), chosen, (4, 4)))[0]
    left = np.tile([1, 1, 0, 0], (4, 1))
    np.testing.assert_array_equal(found[0], left)
    np.testing.assert_array_equal(found[1], left)
    np.testing.assert_array_equal(found[2], np.tile([[1], [1], [0], [0]], (1, 4)))


def test_only_the_own_class_of_positives_counts():
    chosen = samples([[0, 0, 16, 16], [8, 8, 24, 40], [0, 0, 9, 9]], [1, 0, -1], [0, 1, -1])
    wanted = np.array(target_masks(targets(), chosen, (4, 4)))[0]
    logits = np.random.default_rng(0).normal(size=(1, 3, 4, 4, 3)).astype(np.float32)
    for row, label in ((0, 1), (1, 0)):
        logits[0, row, ..., label] = 40 * wanted[row] - 20
    assert float(mask_loss_term(logits, targets(), chosen)) == pytest.approx(0, abs=1e-6)
    zero = float(mask_loss_term(logits * 0, targets(), chosen))
    assert zero == pytest.approx(np.log(2), rel=1e-5)
    nothing = samples([[0, 0, 9, 9]], [-1], [-1])
    assert float(mask_loss_term(logits[:, :1], targets(), nothing)) == 0
