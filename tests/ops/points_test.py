import numpy as np
import pytest

from tfdet.ops import points as point_ops


def test_cells_go_row_by_row_and_map_by_map_and_gaps_come_last():
    cells = point_ops.cells((3, 4, 5, 4), (32, 33), 2)
    # Maps of 4x5, 2x3, 1x2 and 2x3 cells.
    assert len(cells.points) == 20 + 6 + 2 + 6 + 2
    np.testing.assert_array_equal(cells.points[:6], [[4 + 8 * i, 4] for i in range(5)] + [[4, 12]])
    np.testing.assert_array_equal(cells.points[20:26], cells.points[28:34])
    np.testing.assert_array_equal(cells.points[26:28], [[16, 16], [48, 16]])
    np.testing.assert_array_equal(cells.points[34:], [[-1, -1]] * 2)
    np.testing.assert_array_equal(cells.levels, np.repeat([3, 4, 5, 4, 3], [20, 6, 2, 6, 2]))
    np.testing.assert_array_equal(cells.strides, 2.0**cells.levels)
    assert (cells.points.dtype, cells.strides.dtype) == (np.float32, np.float32)


def test_distances_end_at_the_last_pixel_and_decode_to_the_box():
    boxes = np.array([[10, 20, 31, 42]], np.float32)
    points = np.array([[12, 24]], np.float32)
    distances = point_ops.encode(boxes, points)
    np.testing.assert_array_equal(distances, [[2, 4, 18, 17]])
    np.testing.assert_array_equal(point_ops.decode(distances, points), boxes)


@pytest.mark.parametrize("shape", [(2, 5), (0,)])
def test_decode_inverts_encode(shape):
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (*shape, 2)).astype(np.float32)
    boxes = rng.uniform(0, 100, (*shape, 4)).astype(np.float32)
    found = point_ops.decode(point_ops.encode(boxes, points), points)
    np.testing.assert_allclose(found, boxes, atol=1e-4)


def test_mmdetections_distances_end_at_the_edges():
    cells = point_ops.cells((3, 4), (32, 32), style="mmdet")
    np.testing.assert_array_equal(cells.points, point_ops.cells((3, 4), (32, 32)).points)
    boxes, points = np.float32([[10, 20, 31, 42]]), np.float32([[12, 24]])
    distances = point_ops.encode(boxes, points, cells.last_pixel)
    np.testing.assert_array_equal(distances, [[2, 4, 19, 18]])
    np.testing.assert_array_equal(point_ops.decode(distances, points, cells.last_pixel), boxes)


def test_torchvisions_points_are_corners_of_cells_of_whole_pixels():
    cells = point_ops.cells((5, 6), (64, 416), gaps=1, style="torchvision")
    assert cells.last_pixel == 0
    np.testing.assert_array_equal(cells.points[:14, 0], [*range(0, 416, 32), 0])
    # Seven cells of 59.4 pixels.
    np.testing.assert_array_equal(cells.points[26:33], [[59 * i, 0] for i in range(7)])
    np.testing.assert_array_equal(cells.points[33:], [[-1, -1]])
    np.testing.assert_array_equal(cells.strides[[0, 26]], [32, 64])


def test_the_first_cells_keep_where_distances_end():
    cells = point_ops.cells((3, 4), (32, 32), style="mmdet").first(5)
    assert (len(cells.points), len(cells.levels), len(cells.strides)) == (5, 5, 5)
    assert cells.last_pixel == 0
