import numpy as np
import pytest

from tfdet.data.sources import open_dataset
from tfdet.data.voc import open_voc, parse_xml
from tfdet.errors import UserError

BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><annotation><filename>&c;</filename></annotation>"""
THIEF = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<annotation><filename>&x;</filename></annotation>"""


@pytest.mark.parametrize("content", [BOMB, THIEF, BOMB.encode("utf-16"), "<!DOCTYPE a><a/>"])
def test_documents_with_entities_are_refused(content):
    with pytest.raises(ValueError, match="document type"):
        parse_xml(content if isinstance(content, bytes) else content.encode())


def test_classes_are_sorted_and_the_same_for_every_split(tmp_path, scenes):
    scenes.write_voc(tmp_path)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("c3\n")
    dataset = open_voc(str(tmp_path), "val")
    assert dataset.class_names == ("ant", "bee", "cat")
    np.testing.assert_array_equal(dataset.labels, [1])


def test_class_file_decides_the_order(tmp_path, scenes):
    spec = scenes.write_voc(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\nbee\nant\n")
    assert open_dataset(spec).class_names == ("cat", "bee", "ant")


def test_class_that_the_class_file_lacks_is_counted(tmp_path, scenes):
    spec = scenes.write_voc(tmp_path)
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    dataset = open_dataset(spec)
    assert dataset.problems.counts["unknown_class"] == 1
    assert len(dataset.boxes) == 5


def test_class_wise_lists_have_a_second_column(tmp_path, scenes):
    scenes.write_voc(tmp_path)
    (tmp_path / "ImageSets" / "Main" / "ant_train.txt").write_text("a1  1\nb2 -1\n")
    assert open_voc(str(tmp_path), "ant_train").names.tolist() == ["a1.jpg", "b2.jpg"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("<annotation><object>", "unreadable_annotation"),
        ("", "unreadable_annotation"),
        (BOMB, "unreadable_annotation"),
        (None, "unreadable_annotation"),
    ],
)
def test_annotation_that_cannot_be_read_leaves_its_image_out(tmp_path, scenes, content, kind):
    spec = scenes.write_voc(tmp_path)
    path = tmp_path / "Annotations" / "a1.xml"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    dataset = open_dataset(spec)
    assert dataset.problems.counts[kind] == 1
    assert "a1.xml" in dataset.problems.examples[kind][0]
    assert dataset.image_ids.tolist() == ["b2", "c3", "d4"]


@pytest.mark.parametrize("number", ["", "nan", "x", "1_0", "inf"])
def test_coordinates_that_are_no_numbers_are_counted(tmp_path, scenes, number):
    spec = scenes.write_voc(tmp_path)
    xml = scenes.voc_xml((33, 71), [(1, 0, 0, number, 33)])
    (tmp_path / "Annotations" / "c3.xml").write_text(xml)
    dataset = open_dataset(spec)
    assert dataset.problems.counts["box_not_finite"] == 1
    assert len(dataset) == 4


def test_size_of_zero_is_read_from_the_image(tmp_path, scenes):
    spec = scenes.write_voc(tmp_path)
    (tmp_path / "Annotations" / "c3.xml").write_text(scenes.voc_xml((0, 0), [(1, 0, 0, 71, 33)]))
    dataset = open_dataset(spec)
    np.testing.assert_array_equal(dataset.sizes[2], (33, 71))


def test_image_is_found_by_the_name_in_the_annotation(tmp_path, scenes):
    spec = scenes.write_voc(tmp_path)
    images = tmp_path / "JPEGImages"
    (images / "a1.jpg").rename(images / "other.jpg")
    xml = scenes.voc_xml((40, 60), [], "<filename>other.jpg</filename>")
    (tmp_path / "Annotations" / "a1.xml").write_text(xml)
    assert open_dataset(spec).files[0] == str(images / "other.jpg")


def test_name_that_leads_out_of_the_images_is_refused(tmp_path, scenes):
    spec = scenes.write_voc(tmp_path)
    images = tmp_path / "JPEGImages"
    (images / "a1.jpg").rename(tmp_path / "secret.jpg")
    xml = scenes.voc_xml((40, 60), [], "<filename>../secret.jpg</filename>")
    (tmp_path / "Annotations" / "a1.xml").write_text(xml)
    dataset = open_dataset(spec)
    assert dataset.problems.counts["unsafe_path"] == 1
    assert len(dataset) == 3


def test_parts_of_objects_are_no_classes(tmp_path, scenes):
    spec = scenes.write_voc(tmp_path)
    xml = scenes.voc_xml((33, 71), [(1, 0, 0, 71, 33)]).replace(
        "<bndbox>", "<part><name>head</name></part><bndbox>"
    )
    (tmp_path / "Annotations" / "c3.xml").write_text(xml)
    assert "head" not in open_dataset(spec).class_names


@pytest.mark.parametrize(
    ("split", "content", "message"),
    [("dev", None, "no split 'dev'.*train"), ("none", "\n", "lists no image")],
)
def test_wrong_splits_end_with_a_sentence(tmp_path, scenes, split, content, message):
    scenes.write_voc(tmp_path)
    if content is not None:
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        open_voc(str(tmp_path), split)


def test_blood_cells_are_read_and_their_bad_boxes_named(bccd):
    dataset = open_voc(str(bccd), "trainval")
    assert len(dataset) == 292 and dataset.class_names == ("Platelets", "RBC", "WBC")
    assert dataset.problems.counts == {"box_no_area": 2}
    names = dataset.problems.examples["box_no_area"]
    assert names == ["BloodImage_00338.jpg", "BloodImage_00343.jpg"]
    assert np.all(dataset.boxes[:, 2:] > dataset.boxes[:, :2])
