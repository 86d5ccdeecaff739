import numpy as np
import pytest

from tests.losses import ota_cases
from tfdet.losses.ota_candidates import find_candidates
from tfdet.ops.anchor_grid import YOLOV7, row_counts, rows


def found(boxes, is_known, grid, image_size, **arguments):
    result = find_candidates(boxes, is_known, grid, image_size, **arguments)
    return result._replace(**{name: np.array(value) for name, value in result._asdict().items()})


def test_counts_per_level_are_the_published_ones():
    targets = ota_cases.published_targets()
    candidates = found(targets["boxes"], targets["labels"] >= 0, YOLOV7, ota_cases.IMAGE_SIZE)
    per_level = candidates.is_valid.reshape(2, 3, -1).sum(axis=(0, 2))
    assert per_level.tolist() == [27, 29, 21]


@pytest.mark.parametrize("reach", [0.5, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_the_slow_way_in_the_same_order(seed, reach):
    targets, _ = ota_cases.random_case(seed)
    grid, size = ota_cases.SMALL, ota_cases.SMALL_SIZE
    is_known = targets["labels"] >= 0
    candidates = found(targets["boxes"], is_known, grid, size, reach=reach)
    for image, boxes in enumerate(targets["boxes"]):
        expected = [
            (ota_cases.row_number(c, grid, size), c[-1])
            for c in ota_cases.slow_candidates(boxes, grid, size, reach)
            if is_known[image, c[-1]]
        ]
        is_valid = candidates.is_valid[image]
        pairs = zip(candidates.row[image][is_valid], candidates.owner[is_valid], strict=True)
        assert list(pairs) == expected
    assert candidates.is_valid.any()


def test_cells_and_anchors_are_those_of_the_row():
    targets, _ = ota_cases.random_case(0)
    grid, size = ota_cases.SMALL, ota_cases.SMALL_SIZE
    candidates = found(targets["boxes"], targets["labels"] >= 0, grid, size)
    constants = rows(grid, size)
    assert candidates.row.min() >= 0 and candidates.row.max() < sum(row_counts(grid, size))
    for image, row in enumerate(candidates.row):
        np.testing.assert_array_equal(constants.cell_x[row], candidates.cell_x[image])
        np.testing.assert_array_equal(constants.cell_y[row], candidates.cell_y[image])
        np.testing.assert_array_equal(constants.stride[row], candidates.stride)
        width = candidates.anchor_width * candidates.stride
        np.testing.assert_allclose(constants.anchor_width[row], width)
        height = candidates.anchor_height * candidates.stride
        np.testing.assert_allclose(constants.anchor_height[row], height)


def test_a_centre_on_a_corner_of_cells_has_three_cells_and_two_repeats():
    box = np.float32([[[24 - 6, 32 - 6, 24 + 6, 32 + 6]]])
    candidates = found(box, np.array([[True]]), ota_cases.SMALL, ota_cases.SMALL_SIZE)
    first_anchor = candidates.is_valid.reshape(2, 5, 2)[0, :, 0]
    assert first_anchor.all()
    cells = candidates.row.reshape(2, 5, 2)[0, :, 0]
    assert cells.tolist() == [4 * 12 + 3, 4 * 12 + 2, 3 * 12 + 3, 4 * 12 + 3, 4 * 12 + 3]
