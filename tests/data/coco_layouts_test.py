import pytest

from tfdet.data import coco_layouts
from tfdet.errors import UserError


@pytest.mark.parametrize(
    ("files", "split", "found", "to_make"),
    [
        (["a.json"], None, "a.json", None),
        (["a.json"], "val", "a.json", "val"),
        (["annotations/val2017.json"], "val", "annotations/val2017.json", "val"),
        (["annotations/instances_val2017.json", "annotations/captions_val2017.json",
          "annotations/person_keypoints_train2017.json", "annotations/instances_train2017.json"],
         "val", "annotations/instances_val2017.json", None),
        (["test/x.json", "train/x.json", "valid/x.json"], "test", "test/x.json", None),
        (["test/x.json", "train/x.json", "valid/x.json"], "valid", "valid/x.json", None),
    ],
)  # fmt: skip
def test_the_file_of_a_split_is_found(tmp_path, files, split, found, to_make):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    path, left = coco_layouts.annotations_of(str(tmp_path), split)
    assert (path, left) == (str(tmp_path / found), to_make)


def test_two_files_of_one_split_are_named(tmp_path):
    for name in ("train_a.json", "train_b.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=r"looked for a train JSON.*train_a.json.*train_b.json"):
        coco_layouts.annotations_of(str(tmp_path), "train")


def test_the_folder_with_most_images_is_taken(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "a.jpg").write_text("")
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images" / name).write_text("")
    names = ["a.jpg", "b.jpg", "../c.jpg"]
    found = coco_layouts.image_directory(str(tmp_path / "x.json"), names)
    assert found == str(tmp_path / "images")
