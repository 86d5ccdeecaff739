import numpy as np
import pytest

from tfdet.data.builder import DatasetBuilder
from tfdet.errors import UserError


def _add(builder, name, boxes, labels=None, **options):
    builder.add_image(
        image_id=name,
        file_name=f"{name}.png",
        file=f"{name}.png",
        size=(100, 200),
        boxes=boxes,
        labels=labels or [0] * len(boxes),
        span=(0, 0),
        **options,
    )


def test_images_are_ordered_by_name_without_extension():
    builder = DatasetBuilder("x", ["a"])
    for name in ("b-1", "b", "a10", "a9"):
        _add(builder, name, [[1, 1, 2, 2]])
    assert builder.build().names.tolist() == ["a10.png", "a9.png", "b.png", "b-1.png"]


def test_boxes_are_kept_to_a_hundredth_of_a_pixel():
    builder = DatasetBuilder("x", ["a"])
    _add(builder, "i", [[1.0000004, 2.1249, 30.126, 41.9999996]])
    expected = np.array([[1, 2.12, 30.13, 42]], np.float32)
    np.testing.assert_array_equal(builder.build().boxes, expected)


def test_overhang_of_half_a_pixel_is_clipped_without_a_word():
    builder = DatasetBuilder("x", ["a"])
    _add(builder, "i", [[-0.4, 0, 200.5, 100.2]])
    dataset = builder.build()
    np.testing.assert_array_equal(dataset.boxes, [[0, 0, 200, 100]])
    assert dataset.problems.counts == {}


def test_areas_of_outlines_are_kept_and_others_are_those_of_boxes():
    builder = DatasetBuilder("x", ["a"])
    _add(builder, "i", [[0, 0, 10, 10], [0, 0, 10, 10]], areas=[42.5, np.nan])
    np.testing.assert_array_equal(builder.build().areas, [42.5, 100])


def test_outlines_stay_with_their_boxes_when_others_go():
    builder = DatasetBuilder("x", ["a"])
    rings = [[[k, 0, k, 9, 9, 9]] for k in range(3)]
    boxes = [[0, 0, 9, 9], [5, 5, 5, 9], [2, 0, 9, 9]]
    _add(builder, "i", boxes, segmentations=rings)
    outlines = builder.build().outlines
    assert [outlines.segmentation(t) for t in range(2)] == [rings[0], rings[2]]


def test_set_without_an_image_says_why():
    builder = DatasetBuilder("the set", ["a"])
    builder.add_image("i", "i.jpg", "/nowhere/i.jpg", (5, 5), [], [])
    with pytest.raises(UserError, match=r"the set has no usable image: 1 x image file is missing"):
        builder.build()
