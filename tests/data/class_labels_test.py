import json

import pytest

from tfdet.data.check import check, report_text
from tfdet.data.class_labels import ClassLabels
from tfdet.data.sources import open_dataset


def _details(dataset):
    return dataset.problems.details["unknown_class"]


def test_classes_that_are_not_in_the_list_get_labels_below_zero():
    label_of = ClassLabels(["ant", "bee"])
    assert [label_of[key] for key in ("bee", "cat", "ant", 7, "cat")] == [1, -1, 0, -2, -1]
    assert label_of.unknown == ["cat", 7]


def _yolo(scenes, folder, shift, names="[ant, bee, cat]"):
    spec = scenes.write_yolo(folder)
    for path in (folder / "labels" / "train").glob("*.txt"):
        rows = [line.split() for line in path.read_text().splitlines()]
        path.write_text("\n".join(" ".join([f"{int(r[0]) + shift}", *r[1:]]) for r in rows))
    (folder / "data.yaml").write_text(f"path: .\ntrain: images/train\nnames: {names}\n")
    return spec


def test_ids_of_yolo_that_count_from_one_are_noticed(tmp_path, scenes):
    text = report_text(check(_yolo(scenes, tmp_path, 1)))
    hint = "no box has the first id, 0; do the ids of the boxes count from 1?"
    assert f"box of an unknown class (1 of 3 ({hint}))" in text


def test_an_unknown_id_without_a_gap_at_the_other_end_is_only_named(tmp_path, scenes):
    dataset = open_dataset(_yolo(scenes, tmp_path, 0, "[ant, bee]"))
    assert _details(dataset) == ["1 of 2"]


def test_ids_of_coco_that_count_from_zero_are_noticed(tmp_path, scenes):
    spec = scenes.write_coco(tmp_path)
    path = spec.split(":")[1]
    with open(path) as file:
        content = json.load(file)
    ids = sorted(category["id"] for category in content["categories"])
    earlier = dict(zip(ids, [ids[0] - 1, *ids], strict=False))
    for box in content["annotations"]:
        box["category_id"] = earlier[box["category_id"]]
    with open(path, "w") as file:
        json.dump(content, file)
    (sentence,) = _details(open_dataset(spec))
    assert f"no box has the last id, {ids[-1]}; do the ids of the boxes count from 0?" in sentence


@pytest.mark.parametrize("listed", ["Circle", "circles"])
def test_a_class_of_the_data_is_compared_with_the_names_of_a_model(listed):
    dataset = open_dataset("shapes:val:20", class_names=(listed, "square"))
    found = next(x for x in _details(dataset) if "'circle'" in x)
    assert found.endswith(f" of 'circle' (is it {listed!r}?)")
    assert any(sentence.endswith("of 'star'") for sentence in _details(dataset))


def test_of_many_unknown_classes_those_with_most_boxes_are_named(tmp_path, scenes):
    spec = _yolo(scenes, tmp_path, 0)
    path = tmp_path / "labels" / "train" / "b2.txt"
    lines = [f"{k} 0.5 0.5 0.2 0.2" for k in (9, 9, *range(20, 27))]
    path.write_text("\n".join(lines))
    dataset = open_dataset(spec)
    assert dataset.problems.counts["unknown_class"] == 9
    assert _details(dataset)[0] == "2 of 9" and _details(dataset)[-1] == "and 3 other classes"
    assert len(_details(dataset)) == 6
    assert dataset.problems.examples["unknown_class"] == ["b2.jpg"]
