import numpy as np
import pytest

from tfdet.data.outlines import OutlineCollector, Outlines

TRIANGLE, SQUARE, SLIVER = [0, 0, 4, 0, 0, 4], [1, 1, 3, 1, 3, 3, 1, 3], [7, 7, 8, 7, 9, 9]
OUTLINES = Outlines.from_segmentations(
    [[TRIANGLE], None, [SQUARE, SLIVER], {"size": [5, 5], "counts": "x"}, [SLIVER]]
)


def _sound(*segmentations, size=(10, 10)):
    collector = OutlineCollector()
    for segmentation in segmentations:
        collector.add(segmentation)
    rows = np.arange(len(segmentations))
    return collector.sound(rows, np.tile(size, (len(rows), 1)))


def test_sides_close_each_ring():
    sides, owners = OUTLINES.sides(slice(0, 1))
    np.testing.assert_array_equal(sides, [[0, 0, 4, 0], [4, 0, 0, 4], [0, 4, 0, 0]])
    np.testing.assert_array_equal(owners, [0, 0, 0])


def test_owners_count_from_the_first_object_of_the_slice():
    sides, owners = OUTLINES.sides(slice(1, 5))
    assert sides.dtype == np.float32
    np.testing.assert_array_equal(owners, 7 * [1] + 3 * [3])
    np.testing.assert_array_equal(sides[3], [1, 3, 1, 1])
    np.testing.assert_array_equal(sides[4], [7, 7, 8, 7])
    np.testing.assert_array_equal(sides[4:7], sides[7:])


def test_objects_without_rings_have_no_sides():
    for rows in (slice(1, 2), slice(3, 4), slice(2, 2), slice(5, 5)):
        sides, owners = OUTLINES.sides(rows)
        assert sides.shape == (0, 4) and owners.shape == (0,)
    empty = Outlines.from_segmentations([None, None])
    assert empty.sides(slice(0, 2))[0].shape == (0, 4)


@pytest.mark.parametrize(
    ("segmentation", "count", "is_whole"),
    [
        (None, 0, True),
        ([], 0, True),
        ([TRIANGLE, SQUARE], 2, True),
        ([TRIANGLE, [1, 2, 3]], 1, False),
        ([TRIANGLE, [1, 2, 3, 4]], 1, False),
        ([[float("nan")] * 6], 0, False),
        ([[1e300] * 6], 0, False),
        ([[10**400] * 6], 0, False),
        ([[0, 0, 9, 9, 1e6, 0]], 0, False),
        ([["a"] * 6], 0, False),
        ([[[1]] * 6], 0, False),
        ([None], 0, False),
        (TRIANGLE, 0, False),
        ("polygon", 0, False),
        (7, 0, False),
        ({"size": [10, 10], "counts": [10**12]}, 0, False),
    ],
)
def test_broken_parts_of_outlines_are_left_out(segmentation, count, is_whole):
    outlines, found = _sound(segmentation)
    assert len(outlines) == 1 and not outlines.masks
    assert len(outlines.rings(0)) == count and found.tolist() == [is_whole]


def test_run_lengths_that_fit_are_kept():
    runs = {"size": [10, 10], "counts": [30, 70]}
    outlines, found = _sound(runs)
    assert outlines.segmentation(0) == runs and found.tolist() == [True]
