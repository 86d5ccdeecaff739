import json

import numpy as np

import tfdet
from tfdet.data import shapes_export


def test_what_is_written_is_read_as_the_same_set(tmp_path):
    done = []
    (spec,) = shapes_export.write_shapes(str(tmp_path), {"val": 3}, lambda *x: done.append(x))
    assert done == [(1, 3), (2, 3), (3, 3)]
    ours, theirs = tfdet.open_dataset("shapes:val").subset(3), tfdet.open_dataset(spec)
    assert theirs.class_names == ours.class_names and theirs.class_ids == ours.class_ids
    np.testing.assert_allclose(theirs.boxes, ours.boxes, atol=0.02)
    np.testing.assert_array_equal(theirs.labels, ours.labels)
    assert [theirs.encoded(i) for i in range(3)] == [ours.encoded(i) for i in range(3)]


def test_each_image_has_its_difficulty(tmp_path):
    shapes_export.write_shapes(str(tmp_path), {"val": 4})
    facts = json.loads((tmp_path / "annotations" / "instances_val.json").read_text())
    difficulties = [image["difficulty"] for image in facts["images"]]
    assert len(set(difficulties)) > 1 and all(0 <= x <= 1 for x in difficulties)
