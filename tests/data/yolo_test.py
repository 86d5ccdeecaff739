import numpy as np
import pytest

from tfdet.data.sources import open_dataset
from tfdet.data.yolo import open_yolo
from tfdet.errors import UserError


def _write_names(root, names):
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nnames: {names}\n")


def test_names_may_be_a_dict_with_gaps(tmp_path, scenes):
    spec = scenes.write_yolo(tmp_path)
    _write_names(tmp_path, "{0: ant, 2: cat}")
    dataset = open_dataset(spec)
    assert dataset.class_names == ("ant", "cat") and dataset.class_ids == (0, 2)
    assert dataset.problems.counts["unknown_class"] == 3


@pytest.mark.parametrize("digits", [6, 9, 17])
def test_coordinates_come_back_exactly(tmp_path, scenes, digits):
    dataset = open_dataset(scenes.write_yolo(tmp_path, digits))
    expected = [box[1:] for _, _, boxes in scenes.scenes for box in boxes]
    np.testing.assert_array_equal(dataset.boxes, np.array(expected, np.float32))


def test_outlines_give_boxes_and_stay(tmp_path, scenes):
    spec = scenes.write_yolo(tmp_path)
    (tmp_path / "labels" / "train" / "b2.txt").write_text("1 0.2 0.2 0.8 0.2 0.5 0.6\n")
    dataset = open_dataset(spec)
    row = dataset.rows(1).start
    np.testing.assert_array_equal(dataset.boxes[row], [10, 10, 40, 30])
    assert dataset.outlines.segmentation(row) == [[10, 10, 40, 10, 25, 30]]


@pytest.mark.parametrize("line", ["0 0.5 0.5", "x 0.5 0.5 0.1 0.1", "0 a b c d", "nan 0 0 1 1"])
def test_lines_that_cannot_be_read_are_counted(tmp_path, scenes, line):
    spec = scenes.write_yolo(tmp_path)
    path = tmp_path / "labels" / "train" / "b2.txt"
    path.write_text(f"{line}\n\n1 0.5 0.5 0.2 0.2\n")
    dataset = open_dataset(spec)
    assert dataset.problems.counts["unreadable_line"] == 1
    assert dataset.problems.examples["unreadable_line"] == [f"{path}:1"]
    assert len(dataset.boxes) == 7


def test_image_without_a_label_file_is_background(tmp_path, scenes):
    dataset = open_dataset(scenes.write_yolo(tmp_path))
    assert dataset.problems.counts == {"empty_image": 1, "missing_label": 1}
    assert dataset.rows(1) == slice(2, 2)


def test_lists_of_files_and_of_directories_work(tmp_path, scenes):
    scenes.write_yolo(tmp_path)
    (tmp_path / "list.txt").write_text("./images/train/a1.jpg\nimages/train/c3.jpg\n")
    (tmp_path / "data.yaml").write_text("train: list.txt\nval: [images/train]\nnames: [a, b, c]\n")
    assert open_yolo(str(tmp_path / "data.yaml"), "train").names.tolist() == [
        "train/a1.jpg",
        "train/c3.jpg",
    ]
    assert len(open_yolo(str(tmp_path / "data.yaml"), "val")) == 4


def test_parent_directory_that_exporters_write_is_found_beside(tmp_path, scenes):
    scenes.write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text("train: ../images/train\nnames: [a, b, c]\n")
    assert len(open_yolo(str(tmp_path / "data.yaml"), "train")) == 4


def test_listed_image_that_is_missing_is_left_out(tmp_path, scenes):
    scenes.write_yolo(tmp_path)
    (tmp_path / "list.txt").write_text("images/train/a1.jpg\nimages/train/zz.jpg\n")
    (tmp_path / "data.yaml").write_text("train: list.txt\nnames: [a, b, c]\n")
    dataset = open_yolo(str(tmp_path / "data.yaml"), "train")
    assert len(dataset) == 1 and dataset.problems.counts["missing_image"] == 1


def test_broken_image_is_left_out(tmp_path, scenes):
    spec = scenes.write_yolo(tmp_path)
    (tmp_path / "images" / "train" / "a1.jpg").write_bytes(b"")
    dataset = open_dataset(spec)
    assert len(dataset) == 3 and dataset.problems.counts["unreadable_image"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is not YAML in line 1"),
        ("text", "no keys"),
        ("train: images/train", "expected `names`"),
        ("names: [a]", "no split 'train'"),
        ("names: {x: a}\ntrain: images/train", "whole numbers"),
        ("names: [a]\ntrain: nowhere", "there is no"),
        ("names: [a]\ntrain: labels/train", "there is no image"),
    ],
)
def test_wrong_yaml_ends_with_a_sentence(tmp_path, scenes, content, message):
    scenes.write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(content)
    with pytest.raises(UserError, match=message):
        open_yolo(str(tmp_path / "data.yaml"), "train")
