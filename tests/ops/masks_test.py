import numpy as np
import pytest

from tfdet.ops import masks as mask_ops


def test_the_same_box_gives_the_same_mask():
    rng = np.random.default_rng(0)
    masks = rng.random((2, 3, 6, 5)).astype(np.float32)
    boxes = np.array([[[3, 4, 50, 22], [0, 0, 1, 1], [-9, 2, 7, 300]]] * 2, np.float32)
    np.testing.assert_allclose(mask_ops.crop(masks, boxes, boxes, (6, 5)), masks, atol=1e-4)


def test_a_part_of_a_box_shows_a_part_of_its_mask():
    masks = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    box, part = np.float32([[[10, 10, 18, 30]]]), np.float32([[[14, 10, 18, 20]]])
    found = np.array(mask_ops.crop(masks, box, part, (2, 2)))[0, 0]
    np.testing.assert_allclose(found, [[2, 3], [6, 7]], atol=1e-5)


def test_empty_boxes_and_other_places_show_nothing():
    masks = np.ones((1, 3, 4, 4), np.float32)
    boxes = np.float32([[[5, 5, 5, 9], [0, 0, 4, 4], [0, 0, 4, 4]]])
    other = np.float32([[[5, 5, 5, 9], [20, 20, 30, 30], [0, 0, 8, 8]]])
    found = np.array(mask_ops.crop(masks, boxes, other, (2, 2)))
    np.testing.assert_allclose(found[0, 2], [[1, 0], [0, 0]], atol=1e-5)
    assert not found[0, :2].any()


def plain_paste(mask, box, size):
    """Pixel by pixel, with zeros around the mask."""
    padded = np.pad(mask.astype(np.float64), 1)
    pixels = np.zeros(size, bool)
    for i, j in np.ndindex(*size):
        y = (i + 0.5 - box[1]) / (box[3] - box[1]) * mask.shape[0] + 0.5
        x = (j + 0.5 - box[0]) / (box[2] - box[0]) * mask.shape[1] + 0.5
        if not (0 <= y <= mask.shape[0] + 1 and 0 <= x <= mask.shape[1] + 1):
            continue
        y0, x0 = min(int(y), mask.shape[0]), min(int(x), mask.shape[1])
        fy, fx = y - y0, x - x0
        rows = padded[y0 : y0 + 2, x0 : x0 + 2]
        pixels[i, j] = (
            (1 - fy) * ((1 - fx) * rows[0, 0] + fx * rows[0, 1])
            + fy * ((1 - fx) * rows[1, 0] + fx * rows[1, 1])
        ) >= 0.5
    return pixels


@pytest.mark.parametrize(
    "box", [[3, 4, 17, 12], [-6.3, 2.2, 9.9, 30], [5.2, 5.1, 5.9, 5.8], [0, 0, 20, 16]]
)
def test_pasting_equals_the_plain_rule(box):
    mask = np.random.default_rng(1).random((7, 6))
    found = mask_ops.paste(mask, np.array(box), (16, 20))
    np.testing.assert_array_equal(found, plain_paste(mask, box, (16, 20)))


def test_boxes_beside_the_image_and_empty_ones_paste_nothing():
    for box in ([30, 3, 40, 9], [3, -9, 8, -4], [4, 4, 4, 9]):
        assert not mask_ops.paste(np.ones((3, 3)), np.array(box), (16, 20)).any()
