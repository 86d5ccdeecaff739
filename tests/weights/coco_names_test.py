from tfdet.weights import coco_names


def test_the_three_orders_of_cocos_classes():
    names, ids = coco_names.classes(80)
    assert (names[0], names[-1], ids[0], ids[-1]) == ("person", "toothbrush", 1, 90)
    names, ids = coco_names.classes(90)
    assert (names[0], names[11], names[89]) == ("person", "", "toothbrush")
    assert ids == list(range(1, 91))
    names, ids = coco_names.classes(91)
    assert (names[0], names[1], names[90]) == ("", "person", "toothbrush")
    assert coco_names.classes(20) is None


def test_they_are_those_of_the_annotations(coco_tiny):
    import json

    file = next(coco_tiny.rglob("*.json"))
    categories = json.loads(file.read_text())["categories"]
    assert {x["id"]: x["name"] for x in categories} == coco_names.NAMES
