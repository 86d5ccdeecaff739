import numpy as np
import pytest

from tfdet.data.class_labels import ClassLabels
from tfdet.data.coco_columns import AnnotationRows, CategoryRows, ImageRows
from tfdet.data.problems import Problems


def _taken(kind, *rows):
    column = kind()
    for row in rows:
        column.add(row)
    return column


@pytest.mark.parametrize(
    ("kind", "row", "problem"),
    [
        (ImageRows, {"id": 1}, "lacks file_name and id: {'id': 1}"),
        (CategoryRows, None, "lacks id: None"),
        (AnnotationRows, [], "lacks image_id: []"),
    ],
)
def test_the_first_row_that_lacks_a_key_is_named(kind, row, problem):
    assert _taken(kind, row, 7).lacking == problem


def test_the_first_value_of_a_wrong_type_is_named():
    images = _taken(ImageRows, {"id": 1, "file_name": "a"}, {"id": 2**63, "file_name": {}})
    assert images.mistyped[0] == "id"
    assert images.mistyped[1].startswith("must be a whole number of 64 bits or text, got 922")
    assert images.ids == [1]


def test_an_earlier_list_of_the_same_key_does_not_count():
    images = _taken(ImageRows, {"id": 1, "file_name": "a"}, None)
    images.begin()
    assert images.lacking is None and images.ids == []


def test_annotations_are_grouped_by_image():
    box = {"bbox": [1, 2, 3, 4], "category_id": 5}
    rows = [{"image_id": i, "id": k} | box for k, i in enumerate(["b", 7, "b", 9, 1.5, [], 7])]
    annotations = _taken(AnnotationRows, *rows, rows[0], {"image_id": 7, "id": "x"})
    problems = Problems()
    kept = annotations.kept({"b": "b.jpg", 7: "7.jpg"}, problems)
    assert kept.tolist() == [0, 1, 2, 6, 8]
    assert problems.examples == {
        "unknown_image": ["image id 9", "image id 1.5", "image id []"],
        "duplicate_id": ["b.jpg (box id 0)"],
    }
    by_image = annotations.by_image(kept)
    assert by_image["b"].tolist() == [0, 2] and by_image[7].tolist() == [1, 6, 8]
    objects = annotations.objects(ClassLabels([5]))
    np.testing.assert_array_equal(objects.boxes[0], [1, 2, 4, 6])
    assert objects.labels.tolist() == 8 * [0] + [-1]
    assert np.isnan(objects.boxes[8]).all() and np.isnan(objects.areas).all()


def test_ids_of_every_kind_are_compared():
    ids = [1, "1", 2**70, None, "1", 2**70, None, 1, -1, True]
    annotations = _taken(AnnotationRows, *[{"image_id": 1, "id": own} for own in ids])
    assert annotations.kept({1: "a"}, Problems()).tolist() == [0, 1, 2, 3, 6, 8]
