import dataclasses

import numpy as np
import pytest

from tfdet.data import survey
from tfdet.data.shapes import open_shapes
from tfdet.visualization import dataset_page

EVIL = "<img src=x onerror=alert(1)>"


def _report(**changes):
    report = {"data": "shapes:val", "assumed": [], "damaged": 0, "problems": {}}
    return report | changes


@pytest.fixture(scope="module")
def dataset():
    return open_shapes("val", 6)


def _page(dataset, report=None, **more):
    facts = survey.survey(dataset)
    shown = dataset_page.pictures(dataset, range(len(dataset)))
    return dataset_page.dataset_page(report or _report(), facts, shown, {}, **more)


def test_pictures_classes_sizes_and_numbers_are_on_the_page(dataset):
    html = _page(dataset)
    assert html.count("data:image/jpeg;base64,") == 6
    for words in ("circle", "Sizes and shapes", "Objects per image", "Nothing is wrong with it"):
        assert words in html


def test_names_of_classes_and_files_are_text(dataset):
    names = (EVIL, *dataset.class_names[1:])
    odd = dataclasses.replace(dataset, class_names=names, names=np.array([EVIL] * len(dataset)))
    entry = {"count": 2, "found": EVIL, "action": EVIL, "details": [EVIL], "examples": [EVIL]}
    html = _page(odd, _report(data=EVIL, assumed=[EVIL], problems={"crowd": entry}))
    assert "<img src=x" not in html and "&lt;img src=x" in html


def test_a_data_set_without_objects_has_a_page(dataset):
    nothing = np.zeros(0, np.int64)
    empty = dataclasses.replace(
        dataset,
        box_offsets=np.zeros(len(dataset) + 1, np.int64),
        **dataset._take_boxes(nothing),
    )
    html = _page(empty)
    assert "There are no objects." in html and "5 of the classes have no object" in html


def test_objects_are_coloured_by_the_level_that_learns_them(dataset):
    count = len(dataset.boxes)
    levels = dataset_page.Levels(
        name="x",
        image_size=(160, 160),
        guides=[("P3", 8, "anchors of 32 pixels")],
        ratios=[0.5, 1.0],
        sizes=np.full(count, 20.0),
        levels=np.where(np.arange(count) == 0, -1, 3),
        report=["a sentence"],
    )
    html = _page(dataset, levels=levels)
    assert f"P3 {count - 1}</title>" in html and "no level 1</title>" in html
    assert "anchors of 32 pixels" in html and "shape of an anchor" in html


def test_a_batch_shows_its_targets_and_no_padding():
    images = np.full((2, 20, 30, 3), 300.0)
    boxes, labels = np.zeros((2, 4, 4)), np.full((2, 4), -1)
    boxes[0, 0], labels[0, 0] = (2, 2, 9, 9), 1
    shown = dataset_page.batch_pictures(images, boxes, labels, ("a", "b"))
    assert [one.caption for one in shown] == ["1 object", "0 objects"]
