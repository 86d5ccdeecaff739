import json

import numpy as np
import pytest

from tfdet.errors import UserError
from tfdet.ops.anchor_grid import (
    YOLOV7,
    YOLOV7_W6,
    AnchorGrid,
    decode,
    map_sizes,
    row_counts,
    rows,
)

SMALL = AnchorGrid((8, 16), (((10, 20), (30, 40)), ((50, 60), (70, 80))))


@pytest.mark.parametrize(
    ("grid", "side", "count"),
    [
        (YOLOV7, 640, 25_200),
        (YOLOV7_W6, 1280, 102_000),
        (YOLOV7, 128, 1008),
        (YOLOV7_W6, 128, 1020),
    ],
)
def test_row_counts_are_the_published_ones(grid, side, count):
    assert sum(row_counts(grid, (side, side))) == count
    assert {len(column) for column in rows(grid, (side, side))} == {count}


def test_rows_go_by_level_anchor_y_and_x():
    found = rows(SMALL, (32, 48))
    expected = [
        (x, y, stride, width, height, level)
        for level, (stride, anchors) in enumerate(zip(SMALL.strides, SMALL.anchors, strict=True))
        for width, height in anchors
        for y in range(32 // stride)
        for x in range(48 // stride)
    ]
    np.testing.assert_array_equal(np.stack(found, axis=-1), expected)
    assert map_sizes(SMALL, (32, 48)) == ((4, 6), (2, 3))
    assert [column.dtype for column in found] == [np.float32] * 5 + [np.int32]
    assert rows(SMALL, (32, 48)) is found


def test_decode_is_the_published_formula():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(2, sum(row_counts(SMALL, (32, 48))), 4)).astype(np.float32)
    found = np.array(decode(codes, SMALL, (32, 48)))
    for k, row in enumerate(zip(*rows(SMALL, (32, 48)), strict=True)):
        cell_x, cell_y, stride, width, height, _ = row
        s = 1 / (1 + np.exp(-codes[:, k].astype(np.float64)))
        center = (2 * s[:, :2] - 0.5 + [cell_x, cell_y]) * stride
        size = (2 * s[:, 2:]) ** 2 * [width, height]
        expected = np.concatenate([center - size / 2, center + size / 2], axis=-1)
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-5, atol=1e-4)


def test_code_zero_is_the_anchor_in_the_middle_of_its_cell():
    boxes = np.array(decode(np.zeros((1, 60, 4), np.float16), SMALL, (32, 48)))
    np.testing.assert_array_equal(boxes[0, 1], [12 - 5, 4 - 10, 12 + 5, 4 + 10])
    np.testing.assert_array_equal(boxes[0, -1], [40 - 35, 24 - 40, 40 + 35, 24 + 40])
    assert boxes.dtype == np.float32


def test_round_trip_through_json():
    grid = json.loads(json.dumps({"strides": YOLOV7.strides, "anchors": YOLOV7.anchors}))
    assert AnchorGrid(**grid) == YOLOV7 and hash(AnchorGrid(**grid)) == hash(YOLOV7)


@pytest.mark.parametrize(
    ("strides", "anchors", "message"),
    [
        ((8, 16), [[(1, 2)]], "each of 2 strides, got \\[1\\]"),
        ((8, 16), [[(1, 2)], [(1, 2), (3, 4)]], "got \\[1, 2\\]"),
        ((8,), [[(0, 2)]], "above 0"),
        ((), [], "each of 0 strides"),
    ],
)
def test_wrong_grids_are_refused(strides, anchors, message):
    with pytest.raises(UserError, match=message):
        AnchorGrid(strides, anchors)


@pytest.mark.parametrize("size", [(32, 40), (0, 32)])
def test_image_sizes_that_do_not_divide_are_refused(size):
    with pytest.raises(UserError, match="multiples of 16, got"):
        rows(SMALL, size)
