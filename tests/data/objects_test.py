import numpy as np

from tfdet.data.objects import ObjectCollector


def test_rows_of_an_image_are_those_of_its_objects():
    collector = ObjectCollector()
    first = collector.add([[1, 2, 3, 4], [5, 6, 7, 8]], [0, -1])
    assert len(collector.add([], [])) == 0
    second = collector.add([[0, 0, 9, 9]], [2], [True], [42.5], [[[0, 0, 9, 0, 9, 9]]])
    objects = collector.objects()
    np.testing.assert_array_equal(first, [0, 1])
    np.testing.assert_array_equal(objects.boxes[first], [[1, 2, 3, 4], [5, 6, 7, 8]])
    np.testing.assert_array_equal(objects.boxes[second], [[0, 0, 9, 9]])
    assert objects.labels.tolist() == [0, -1, 2]
    assert objects.is_crowd.tolist() == [False, False, True]
    np.testing.assert_array_equal(objects.areas, [np.nan, np.nan, 42.5])
    assert objects.outlines.outlines().segmentation(2) == [[0, 0, 9, 0, 9, 9]]


def test_without_outlines_there_is_none():
    collector = ObjectCollector()
    collector.add([[1, 2, 3, 4]], [0])
    assert collector.objects().outlines is None
