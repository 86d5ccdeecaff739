"""Tests of the tables of `tfdet-infer`: other programs read what is written."""

import csv
import json
import types

import pytest

from tfdet.cli import infer_folder, infer_tables

DRIVER = types.SimpleNamespace(class_names=("disc", "größe"), class_ids=(3, 90))
BOXES = [
    {"class": "größe", "category_id": 90, "score": 0.9, "box_xyxy": [10.0, 5.0, 30.0, 25.0]},
    {"class": "disc", "category_id": 3, "score": 0.4, "box_xyxy": [0.0, 0.0, 100.0, 50.0]},
]


@pytest.fixture
def written(tmp_path):
    """Writes the tables of entries; the folder."""

    def write(*entries, frames=()):
        options = types.SimpleNamespace(save_csv=True, save_coco=True, save_txt=True)
        plan = infer_folder.Plan({}, {}, infer_tables.wanted(options))
        folder = infer_folder.Folder(tmp_path / "out", plan)
        folder.start()
        for entry in entries:
            folder.add(entry)
        for name, lines in frames:
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder.path / name).write_text(text)
        infer_tables.write(options, folder, DRIVER)
        return folder.path

    return write


def _image(file, detections, picture="a.jpg"):
    labels = infer_tables.labels_of(picture)
    return {"file": file, "picture": picture, "size": [50, 100], "detections": detections, **labels}


def test_csv_has_a_row_per_box(written):
    folder = written(_image('photos/a "b", c.jpg', BOXES), _image("empty.jpg", [], "b.jpg"))
    with open(folder / "detections.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [x["file"] for x in rows] == ['photos/a "b", c.jpg'] * 2
    assert (rows[0]["class"], rows[0]["category_id"], rows[0]["frame"]) == ("größe", "90", "")
    assert [float(rows[0][side]) for side in ("left", "top", "right", "bottom")] == [10, 5, 30, 25]


def test_labels_are_in_yolos_form_also_where_nothing_was_found(written):
    folder = written(_image("a.jpg", BOXES), _image("b.jpg", [], "b.jpg"))
    assert (folder / "labels" / "a.txt").read_text().splitlines() == [
        "1 0.200000 0.300000 0.200000 0.400000",
        "0 0.500000 0.500000 1.000000 1.000000",
    ]
    assert (folder / "labels" / "b.txt").read_text() == ""


def test_pycocotools_reads_and_measures_the_coco_form(written, capsys):
    from pycocotools.coco import COCO

    folder = written(_image("a/000000000139.jpg", BOXES), _image("000000000285.jpg", [], "b.jpg"))
    found = COCO(str(folder / "coco.json"))
    assert sorted(found.imgs) == [139, 285]  # COCO's own names are the ids
    assert found.loadCats([90])[0]["name"] == "größe"
    (first, second) = found.loadAnns(found.getAnnIds(139))
    assert first["bbox"] == [10, 5, 20, 20] and first["score"] == 0.9
    assert second["category_id"] == 3
    results = found.loadRes(json.loads((folder / "coco.json").read_text())["annotations"])
    assert len(results.anns) == 2
    capsys.readouterr()  # it prints


def test_frames_of_a_video_are_rows_and_images_too(written):
    lines = [
        {"frame": i, "seconds": i / 10, "size": [50, 100], "detections": BOXES[:i]} for i in (0, 1)
    ]
    video = {
        **{"file": "street.mp4", "video": "street.mp4", "frames": "street.jsonl"},
        **{"labels": "labels/street", "num_frames": 2, "num_detections": 1},
    }
    folder = written(_image("1.jpg", BOXES), video, frames=[("street.jsonl", lines)])
    rows = (folder / "detections.csv").read_text(encoding="utf-8").splitlines()
    assert rows[-1] == "street.mp4,1,größe,90,0.9,10.0,5.0,30.0,25.0"
    images = json.loads((folder / "coco.json").read_text())["images"]
    assert [(x["id"], x.get("frame")) for x in images] == [(1, None), (2, 0), (3, 1)]
    assert (folder / "labels" / "street" / "000000.txt").read_text() == ""
    assert (folder / "labels" / "street" / "000001.txt").read_text().startswith("1 0.2")


def test_names_that_are_no_text_come_out_as_they_went_in(written):
    name = b"\xff.jpg".decode("utf-8", "surrogateescape")
    folder = written(_image(name, BOXES[:1]))
    assert (folder / "detections.csv").read_bytes().splitlines()[1].startswith(b"\xff.jpg,")
    assert json.loads((folder / "coco.json").read_text())["images"][0]["file_name"] == name
