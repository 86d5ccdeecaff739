import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from tfdet.data.coco import open_coco
from tfdet.data.sources import open_dataset
from tfdet.errors import UserError


def _box(image_id=3, category_id=5, bbox=(1, 2, 10, 10), **more):
    return {"image_id": image_id, "category_id": category_id, "bbox": list(bbox), **more}


def _open_with(scenes, root, annotations):
    return open_dataset(scenes.write_coco(root, annotations=annotations))


def test_ids_are_kept_and_labels_have_no_gaps(tmp_path, scenes):
    dataset = open_dataset(scenes.write_coco(tmp_path))
    assert dataset.class_ids == (5, 15, 25)
    np.testing.assert_array_equal(dataset.image_ids, [3, 10, 17, 24])
    assert set(dataset.labels.tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(np.diff(dataset.box_offsets), [2, 0, 1, 3])
    assert dataset.problems.counts == {"empty_image": 1}


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (_box(bbox=(1, 2, float("nan"), 4)), "box_not_finite"),
        (_box(bbox=(1, 2, float("inf"), 4)), "box_not_finite"),
        (_box(bbox=(1, 2, 3)), "box_not_finite"),
        (_box(bbox=("a", 2, 3, 4)), "box_not_finite"),
        (_box(bbox=(1, 2, 0, 4)), "box_no_area"),
        (_box(bbox=(1, 2, -3, 4)), "box_no_area"),
        (_box(bbox=(100, 100, 5, 5)), "box_no_area"),
        (_box(category_id=6), "unknown_class"),
        (_box(category_id=None), "unknown_class"),
        (_box(image_id=99), "unknown_image"),
    ],
)
def test_damaged_box_is_left_out_and_counted(tmp_path, scenes, annotation, kind):
    dataset = _open_with(scenes, tmp_path, [_box(), annotation])
    assert dataset.problems.counts[kind] == 1
    np.testing.assert_array_equal(dataset.boxes, [[1, 2, 11, 12]])


def test_box_that_sticks_out_is_clipped(tmp_path, scenes):
    dataset = _open_with(scenes, tmp_path, [_box(bbox=(-5, 30, 20, 30))])
    assert dataset.problems.counts["box_outside"] == 1
    np.testing.assert_array_equal(dataset.boxes, [[0, 30, 15, 40]])


def test_second_box_of_an_id_is_left_out(tmp_path, scenes):
    dataset = _open_with(scenes, tmp_path, [_box(id=1), _box(id=1, bbox=(5, 5, 9, 9)), _box()])
    assert dataset.problems.counts["duplicate_id"] == 1
    assert len(dataset.boxes) == 2


def test_second_image_of_an_id_is_left_out(tmp_path, scenes):
    scenes.write_coco(tmp_path)
    path = tmp_path / "instances.json"
    content = json.loads(path.read_text())
    content["images"].append(content["images"][0] | {"file_name": "other.jpg"})
    path.write_text(json.dumps(content))
    dataset = open_coco(str(path), str(tmp_path / "images"))
    assert len(dataset) == 4
    assert dataset.problems.counts["duplicate_id"] == 1


@pytest.mark.parametrize("name", ["../a1.jpg", "/etc/passwd", "x/../../a1.jpg", "..\\a1.jpg"])
def test_file_names_that_lead_out_are_refused(tmp_path, scenes, name):
    scenes.write_coco(tmp_path)
    path = tmp_path / "instances.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = name
    path.write_text(json.dumps(content))
    dataset = open_coco(str(path), str(tmp_path / "images"))
    assert dataset.problems.counts["unsafe_path"] == 1
    assert len(dataset) == 3


def test_missing_image_is_left_out(tmp_path, scenes):
    spec = scenes.write_coco(tmp_path)
    (tmp_path / "images" / "a1.jpg").unlink()
    dataset = open_dataset(spec)
    assert len(dataset) == 3
    assert "a1.jpg" in dataset.problems.examples["missing_image"][0]


def test_images_without_a_size_take_it_from_the_file(tmp_path, scenes):
    scenes.write_coco(tmp_path)
    path = tmp_path / "instances.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        del image["height"]
    path.write_text(json.dumps(content))
    dataset = open_coco(str(path), str(tmp_path / "images"))
    np.testing.assert_array_equal(dataset.sizes, [size for _, size, _ in scenes.scenes])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "not a JSON file"),
        ("[]", "no list 'images'"),
        ('{"images": []}', "no list 'annotations'"),
        ('{"images": [], "annotations": [], "categories": []}', "no categories"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1}]}', "file_name"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "no usable image"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1}, {"id": 1}]}',
            "two categories have the same id",
        ),
    ],
)
def test_files_that_are_not_instances_end_with_a_sentence(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        open_coco(str(path), str(tmp_path))


def test_real_annotations_agree_with_pycocotools(coco_tiny):
    path = f"{coco_tiny}/annotations/instances_val2017.json"
    dataset = open_coco(path, f"{coco_tiny}/val2017")
    reference = COCO(path)
    assert len(dataset) == 80 and dataset.num_classes == 80
    assert dataset.class_ids == tuple(sorted(reference.cats))
    assert dataset.is_crowd.sum() == sum(a["iscrowd"] for a in reference.anns.values())
    for i, image_id in enumerate(dataset.image_ids.tolist()):
        expected = reference.imgToAnns[image_id]
        rows = dataset.rows(i)
        bbox = np.array([a["bbox"] for a in expected]).reshape(-1, 4)
        bbox[:, 2:] += bbox[:, :2]
        np.testing.assert_allclose(dataset.boxes[rows], bbox, atol=0.02)
        np.testing.assert_allclose(dataset.areas[rows], [a["area"] for a in expected], rtol=1e-6)
        ids = [dataset.class_ids[label] for label in dataset.labels[rows]]
        assert ids == [a["category_id"] for a in expected]
        for row, annotation in zip(range(rows.start, rows.stop), expected, strict=True):
            outline = dataset.outlines.segmentation(row)
            if annotation["iscrowd"]:
                assert outline == annotation["segmentation"]
            else:
                for ring, wanted in zip(outline, annotation["segmentation"], strict=True):
                    np.testing.assert_allclose(ring, wanted, atol=0.006)
