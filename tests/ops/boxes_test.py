import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfdet.ops import boxes as box_ops


def boxes(rows):
    """Strategy: [rows, 4] float32 xyxy boxes with sides of 1 to 300 pixels on whole pixels."""
    corners = hnp.arrays(np.int32, (rows, 2), elements=st.integers(-100, 500))
    sizes = hnp.arrays(np.int32, (rows, 2), elements=st.integers(1, 300))
    return st.tuples(corners, sizes).map(
        lambda cs: np.concatenate([cs[0], cs[0] + cs[1]], axis=1).astype(np.float32)
    )


def slow_iou(a, b):
    """IoU of two boxes of whole pixels, by counting pixels."""
    pixels_a = {(x, y) for x in range(int(a[0]), int(a[2])) for y in range(int(a[1]), int(a[3]))}
    pixels_b = {(x, y) for x in range(int(b[0]), int(b[2])) for y in range(int(b[1]), int(b[3]))}
    return len(pixels_a & pixels_b) / len(pixels_a | pixels_b)


@settings(max_examples=50, deadline=None)
@given(boxes(5), boxes(5))
def test_decode_inverts_encode(objects, anchors):
    decoded = box_ops.decode(box_ops.encode(objects, anchors), anchors)
    np.testing.assert_allclose(decoded, objects, atol=5e-4)


def test_codes_are_ty_tx_th_tw():
    anchor = np.float32([10, 20, 30, 60])  # centre (20, 40), 20 wide, 40 high
    code = box_ops.encode(np.float32([15, 40, 55, 60]), anchor)  # centre (35, 50), 40 x 20
    np.testing.assert_allclose(
        code, [10 / 40, 15 / 20, np.log(20 / 40), np.log(40 / 20)], rtol=1e-6
    )


def test_code_of_the_anchor_itself_is_zero():
    anchor = np.float32([[3, 5, 17, 9]])
    np.testing.assert_array_equal(box_ops.encode(anchor, anchor), np.zeros((1, 4)))


def test_empty_boxes_have_finite_codes():
    empty = np.float32([[5, 5, 5, 5], [7, 3, 2, 1]])
    anchors = np.float32([[0, 0, 10, 10], [0, 0, 0, 0]])
    assert np.isfinite(np.array(box_ops.encode(empty, anchors))).all()


def test_iou_counts_pixels():
    a = np.float32([[0, 0, 6, 4], [2, 1, 9, 8], [20, 20, 23, 22]])
    b = np.float32([[1, 1, 5, 9], [2, 1, 9, 8]])
    expected = [[slow_iou(x, y) for y in b] for x in a]
    np.testing.assert_allclose(box_ops.iou(a, b), expected, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(boxes(4), boxes(3))
def test_iou_is_symmetric_bounded_and_one_only_for_the_same_box(a, b):
    iou = np.array(box_ops.iou(a, b))
    np.testing.assert_array_equal(iou, np.array(box_ops.iou(b, a)).T)
    assert (iou >= 0).all() and (iou <= 1).all()
    same = (a[:, None] == b[None]).all(-1)
    np.testing.assert_array_equal(iou == 1, same)


def test_iou_takes_batches():
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0, 50, (2, n, 4)).astype(np.float32) for n in (3, 5))
    a[..., 2:] += a[..., :2]
    b[..., 2:] += b[..., :2]
    batched = np.array(box_ops.iou(a, b))
    assert batched.shape == (2, 3, 5)
    np.testing.assert_array_equal(batched[1], box_ops.iou(a[1], b[1]))


def test_empty_boxes_overlap_nothing_and_have_no_area():
    empty = np.float32([[5, 5, 5, 9], [8, 8, 2, 2]])
    np.testing.assert_array_equal(box_ops.area(empty), [0, 0])
    np.testing.assert_array_equal(box_ops.iou(empty, empty), np.zeros((2, 2)))


@pytest.mark.parametrize("rows", [0, 1])
def test_any_number_of_boxes(rows):
    some = np.tile(np.float32([[1, 2, 3, 4]]), (rows, 1))
    assert box_ops.iou(some, some).shape == (rows, rows)
    assert box_ops.encode(some, some).shape == (rows, 4)
    assert box_ops.decode(some, some).shape == (rows, 4)
    assert box_ops.clip(some, (9, 9)).shape == (rows, 4)


def test_clip_takes_height_and_width():
    clipped = box_ops.clip(np.float32([[-5, -6, 70, 80], [10, 11, 12, 13]]), (40, 60))
    np.testing.assert_array_equal(clipped, [[0, 0, 60, 40], [10, 11, 12, 13]])


def test_clip_takes_a_size_per_image():
    some = np.float32([[[-5, -6, 70, 80]], [[-5, -6, 70, 80]]])
    height, width = np.float32([[40], [90]]), np.float32([[60], [7]])
    np.testing.assert_array_equal(
        box_ops.clip(some, (height, width)), [[[0, 0, 60, 40]], [[0, 0, 7, 80]]]
    )


def test_border_counts_the_last_pixel():
    one_pixel = box_ops.sides(np.float32([4, 4, 4, 4]), border=1.0)
    assert float(one_pixel.area) == 1.0
    assert float(box_ops.overlap(one_pixel, one_pixel, border=1.0)) == 1.0
