import numpy as np
import pytest

from tfdet.data.dataset import DetectionDataset
from tfdet.data.outlines import Outlines
from tfdet.data.sources import open_dataset


@pytest.fixture(scope="module")
def shapes() -> DetectionDataset:
    return open_dataset("shapes:val:12")


def test_selection_keeps_boxes_with_their_images(shapes):
    indices = [7, 0, 7, 11]
    selected = shapes.select(indices)
    assert len(selected) == 4
    for new, old in enumerate(indices):
        assert selected.image_ids[new] == shapes.image_ids[old]
        assert selected.encoded(new) == shapes.encoded(old)
        for name in ("boxes", "labels", "is_crowd", "areas"):
            expected = getattr(shapes, name)[shapes.rows(old)]
            np.testing.assert_array_equal(getattr(selected, name)[selected.rows(new)], expected)
        first = selected.rows(new).start
        np.testing.assert_array_equal(
            selected.outlines.rings(first)[0], shapes.outlines.rings(shapes.rows(old).start)[0]
        )


def test_subset_is_the_beginning(shapes):
    assert shapes.subset(3).image_ids.tolist() == [1, 2, 3]
    assert len(shapes.subset(99)) == 12
    assert len(shapes.subset(0)) == 0 and len(shapes.subset(0).boxes) == 0


def test_outlines_of_every_kind_come_back():
    mask = {"size": [4, 5], "counts": [0, 3, 17]}
    values = [[[0, 0, 4, 0, 4, 4]], None, mask, [[1, 1, 2, 1, 2, 2], [5, 5, 6, 5, 6, 6]], [[1, 2]]]
    outlines = Outlines.from_segmentations(values)
    assert len(outlines) == 5
    assert outlines.segmentation(0) == values[0]
    assert outlines.segmentation(1) == []
    assert outlines.segmentation(2) == mask
    assert outlines.segmentation(3) == values[3]
    assert outlines.segmentation(4) == []  # two numbers are no polygon
    taken = outlines.take(np.array([3, 2]))
    assert taken.segmentation(0) == values[3] and taken.segmentation(1) == mask
