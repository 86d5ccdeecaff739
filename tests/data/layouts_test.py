import json
import os

import numpy as np
import pytest

from tfdet.cli import data as command
from tfdet.data import layouts
from tfdet.data.sources import open_dataset
from tfdet.errors import UserError


@pytest.fixture
def move(tmp_path):
    """Moves the files of the scenes as pairs of patterns say: {"JPEGImages": "images"}."""

    def call(root, places):
        for source, target in places.items():
            for path in sorted((root / source).rglob("*.*")):
                stem = path.stem
                new = root / target.format(side="train" if stem in ("a1", "c3") else "valid")
                new.mkdir(parents=True, exist_ok=True)
                path.rename(new / path.name)

    return call


def _as_before(dataset, expected):
    """The same pictures and boxes, whatever the images are called."""
    np.testing.assert_array_equal(dataset.boxes, expected.boxes)
    np.testing.assert_array_equal(dataset.labels, expected.labels)
    assert [os.path.basename(name) for name in dataset.names] == expected.names.tolist()


VOC = [
    {"JPEGImages": "images", "Annotations": "annotations"},
    {"JPEGImages": "images", "Annotations": "labels"},
    {"JPEGImages": "imgs", "Annotations": "xml"},
    {"JPEGImages": ".", "Annotations": "."},
    {"JPEGImages": "pictures of ants", "Annotations": "made with a tool"},
    {"JPEGImages": "images/all", "Annotations": "annotations"},
]


@pytest.mark.parametrize("places", VOC)
def test_images_near_xml_files_open_without_lists(tmp_path, scenes, move, places):
    expected = open_dataset(scenes.write_voc(tmp_path))
    (tmp_path / "ImageSets" / "Main" / "train.txt").unlink()
    move(tmp_path, places)
    _as_before(open_dataset(f"voc:{tmp_path}"), expected)


@pytest.mark.parametrize("places", ["{side}/images+{side}/labels", "images/{side}+labels/{side}"])
@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_folders_named_like_splits_are_the_splits(tmp_path, scenes, move, places, form):
    images, labels = places.split("+")
    if form == "voc":
        scenes.write_voc(tmp_path)
        (tmp_path / "ImageSets" / "Main" / "train.txt").unlink()
        move(tmp_path, {"JPEGImages": images, "Annotations": labels})
    else:
        scenes.write_yolo(tmp_path)
        (tmp_path / "data.yaml").unlink()
        move(tmp_path, {"images": images, "labels": labels})
    names = {split: open_dataset(f"{form}:{tmp_path}:{split}").names for split in ("train", "val")}
    assert names["train"].tolist() == ["train/a1.jpg", "train/c3.jpg"]
    assert names["val"].tolist() == open_dataset(f"{form}:{tmp_path}:valid").names.tolist()
    assert names["val"].tolist() == ["valid/b2.jpg", "valid/d4.jpg"]
    assert len(open_dataset(f"{form}:{tmp_path}")) == 4
    with pytest.raises(UserError, match=r"no split 'test'.*train, val"):
        open_dataset(f"{form}:{tmp_path}:test")


def test_lists_keep_their_meaning_and_all_images_are_there_without_a_split(tmp_path, scenes):
    scenes.write_voc(tmp_path)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("c3\n")
    assert open_dataset(f"voc:{tmp_path}:train").names.tolist() == ["c3.jpg"]
    assert len(open_dataset(f"voc:{tmp_path}")) == 4
    with pytest.raises(UserError, match=r"no split 'val'.*there is train"):
        open_dataset(f"voc:{tmp_path}:val")


def test_the_one_list_that_cvat_writes_can_be_split(tmp_path, scenes):
    scenes.write_voc(tmp_path)
    sets = tmp_path / "ImageSets" / "Main"
    (sets / "train.txt").rename(sets / "default.txt")
    sizes = [len(open_dataset(f"voc:{tmp_path}:{split}")) for split in ("default", "train", "val")]
    assert sizes == [4, 3, 1]


def test_xml_without_image_and_image_without_xml_are_counted(tmp_path, scenes, move):
    scenes.write_voc(tmp_path)
    move(tmp_path, {"JPEGImages": "images", "Annotations": "annotations"})
    (tmp_path / "annotations" / "a1.xml").unlink()
    (tmp_path / "images" / "d4.jpg").unlink()
    scenes.save_image(tmp_path / "masks" / "c3.png", (9, 9))  # of another folder: no image of it
    dataset = open_dataset(f"voc:{tmp_path}")
    assert dataset.names.tolist() == ["b2.jpg", "c3.jpg"]
    assert dataset.problems.counts["missing_annotation"] == 1
    assert "d4.xml" in dataset.problems.examples["missing_image"][0]
    assert f"1 images of {tmp_path}/masks are left out" in dataset.assumed[0]


def test_a_mask_among_the_annotations_is_not_the_image(tmp_path, scenes):
    expected = open_dataset(scenes.write_voc(tmp_path))
    scenes.save_image(tmp_path / "Annotations" / "a1.png", (40, 60))
    dataset = open_dataset(f"voc:{tmp_path}")
    assert dataset.files.tolist() == expected.files.tolist()
    assert "duplicate_id" not in dataset.problems.counts


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ({"classes.txt": "ant\nbee\ncat\n"}, ("ant", "bee", "cat")),
        ({"labels/classes.txt": "x\ny\nz\n"}, ("x", "y", "z")),
        ({"data.yaml": "train: /another/machine\nnames: [p, q, r]\n"}, ("p", "q", "r")),
        ({"notes.yaml": "a: 1"}, ("0", "1", "2")),
    ],
)
def test_a_yolo_folder_opens_without_paths_in_a_yaml(tmp_path, scenes, classes, names):
    expected = open_dataset(scenes.write_yolo(tmp_path))
    (tmp_path / "data.yaml").unlink()
    for name, text in classes.items():
        (tmp_path / name).write_text(text)
    dataset = open_dataset(f"yolo:{tmp_path}")
    assert dataset.class_names == names
    np.testing.assert_array_equal(dataset.boxes, expected.boxes)
    assert dataset.problems.counts["missing_label"] == 1  # b2, which is background


def test_a_yolo_folder_with_a_yaml_is_what_the_yaml_describes(tmp_path, scenes):
    expected = open_dataset(scenes.write_yolo(tmp_path))
    for spec in (f"yolo:{tmp_path}:train", f"yolo:{tmp_path}", f"yolo:{tmp_path}/data.yaml"):
        dataset = open_dataset(spec)
        np.testing.assert_array_equal(dataset.boxes, expected.boxes)
        assert dataset.class_names == expected.class_names


def test_all_splits_of_a_yaml_may_have_images_of_one_name(tmp_path, scenes):
    scenes.write_yolo(tmp_path)
    scenes.save_image(tmp_path / "images" / "val" / "a1.jpg", (40, 60))
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a, b, c]")
    dataset = open_dataset(f"yolo:{tmp_path}/data.yaml")
    assert len(dataset) == 5 and dataset.names.tolist()[-1] == "val/a1.jpg"


COCO = [
    ("instances.json", "images"),
    ("_annotations.coco.json", "."),
    ("annotations/instances_train2017.json", "train2017"),
    ("annotations/instances_train.json", "images/train"),
    ("annotations/all.json", "images"),
    ("train.json", "train"),
]


@pytest.mark.parametrize(("file", "images"), COCO)
def test_images_of_a_coco_file_are_found(tmp_path, scenes, move, file, images):
    expected = open_dataset(scenes.write_coco(tmp_path))
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / "instances.json").rename(tmp_path / file)
    if images != "images":
        move(tmp_path, {"images": images})
    for spec in (f"coco:{tmp_path / file}", f"coco:{tmp_path}"):
        dataset = open_dataset(spec)
        _as_before(dataset, expected)
        assert str((tmp_path / images).resolve()) in dataset.assumed[-1]


def test_roboflows_folders_of_coco_files_are_splits(tmp_path, scenes, move):
    for side in ("train", "valid"):
        scenes.write_coco(tmp_path / side)
        move(tmp_path / side, {"images": "."})
        (tmp_path / side / "instances.json").rename(tmp_path / side / "_annotations.coco.json")
    for split in ("train", "val", "valid"):
        dataset = open_dataset(f"coco:{tmp_path}:{split}")
        folder = "train" if split == "train" else "valid"
        assert len(dataset) == 4 and str(dataset.files[0]) == f"{tmp_path}/{folder}/a1.jpg"
    with pytest.raises(UserError, match=r"found .*train.*_annotations.*valid.*name one"):
        open_dataset(f"coco:{tmp_path}")


def test_image_folder_of_a_coco_file_may_be_named_and_split(tmp_path, scenes):
    spec = scenes.write_coco(tmp_path)
    sizes = [len(open_dataset(f"{spec}{split}")) for split in ("", ":train", ":val")]
    assert sizes == [4, 3, 1]
    (tmp_path / "images:val").mkdir()  # an existing folder keeps its meaning
    with pytest.raises(UserError, match="no usable image"):
        open_dataset(f"{spec}:val")


def test_images_that_are_nowhere_are_named_with_where_they_were_looked_for(tmp_path, scenes):
    scenes.write_coco(tmp_path)
    (tmp_path / "images").rename(tmp_path / "photographs")
    with pytest.raises(UserError, match=r"'d4.jpg', is in .*; give their directory: coco:"):
        open_dataset(f"coco:{tmp_path}/instances.json")


@pytest.mark.parametrize(
    ("form", "files", "message"),
    [
        ("voc", {}, "found no file"),
        ("voc", {"a.jpg": "", "b.txt": ""}, r"looked for XML.*1 .jpg in ., 1 .txt in ."),
        ("yolo", {"i/a.jpg": "", "j/a.xml": ""}, r"looked for a data.yaml.*1 .jpg in i"),
        ("yolo", {"a.jpg": "", "a.txt": "no labels\n"}, "no text file has a line"),
        ("yolo", {"a.jpg": "", "a.txt": "0 0 0 1 1\n", "classes.txt": "\n"}, "names no class"),
        ("coco", {"a.txt": ""}, "found none"),
        ("coco", {"a.json": "", "b.json": ""}, "found .*a.json.*b.json"),
    ],
)
def test_a_folder_without_pairs_ends_with_what_was_looked_for_and_found(
    tmp_path, form, files, message
):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        open_dataset(f"{form}:{tmp_path}")


@pytest.mark.parametrize("folder", ["C:\\data\\cells", "a:b", "train"])
def test_paths_with_colons_are_not_cut(tmp_path, scenes, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    scenes.write_voc(tmp_path / folder)
    assert len(open_dataset(f"voc:{folder}")) == len(open_dataset(f"voc:{folder}:train")) == 4
    scenes.write_coco(tmp_path / folder)
    spec = f"coco:{folder}/instances.json"
    assert len(open_dataset(spec)) == len(open_dataset(f"{spec}:{folder}/images")) == 4
    assert len(open_dataset(f"{spec}:val")) == 1


def test_links_to_folders_are_followed_once(tmp_path, scenes):
    scenes.write_voc(tmp_path / "real")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "images").symlink_to(tmp_path / "real" / "JPEGImages")
    (tmp_path / "linked" / "labels").symlink_to(tmp_path / "real" / "Annotations")
    (tmp_path / "linked" / "loop").symlink_to(tmp_path / "linked")
    assert len(open_dataset(f"voc:{tmp_path}/linked")) == 4


def test_far_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tfdet.limits.MAX_FOLDER_FILES", 2)
    for name in "abc":
        (tmp_path / name).write_text("")
    with pytest.raises(UserError, match="more than 2 files"):
        layouts.find(str(tmp_path), (".xml",))


def test_commands_print_what_was_assumed_apart_from_their_results(tmp_path, scenes, capsys):
    scenes.write_voc(tmp_path)
    (tmp_path / "ImageSets" / "Main" / "train.txt").unlink()
    argv = ["check", f"voc:{tmp_path}:train"]
    assert command.COMMAND.run(command.main, argv) == 0
    said = capsys.readouterr().out
    assert "annotations in " in said and "train is 3 of 4 images" in said
    assert command.COMMAND.run(command.main, [*argv, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["assumed"]) == 2
