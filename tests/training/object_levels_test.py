import numpy as np
import pytest

from tfdet import registry
from tfdet.data import sources
from tfdet.training import object_levels
from tfdet.training.level_report import level_report


@pytest.fixture(scope="module")
def shapes():
    return sources.open_dataset("shapes:train:60")


def test_larger_objects_are_learned_by_coarser_levels(shapes):
    model = registry.create("fcos-test", image_size=(160, 160))
    found = object_levels.object_levels(model, shapes)
    assert found.images == 60 and len(found.sizes) == len(found.levels) == len(shapes.boxes)
    medians = [np.median(found.sizes[found.levels == level]) for level in (3, 4, 5)]
    assert medians == sorted(medians)
    # 256 pixels on 160
    sides = shapes.boxes[:, 2:] - shapes.boxes[:, :2]
    np.testing.assert_allclose(found.sizes, 0.625 * np.sqrt(sides.prod(axis=1)), rtol=1e-5)


def test_objects_of_no_level_are_as_many_as_reported(shapes):
    model = registry.create("retinanet-test", image_size=(64, 64))
    found = object_levels.object_levels(model, shapes)
    assert np.count_nonzero(found.levels == -1) == level_report(model, shapes).unlearned


def test_what_is_chosen_during_training_has_no_levels(shapes):
    assert object_levels.object_levels(registry.create("yolov7-test"), shapes) is None


@pytest.mark.parametrize(
    ("name", "changes", "level", "words", "ratios"),
    [
        ("fcos-test", {"loss.reach": 4.0}, "P4", "32 to 64 pixels", ()),
        ("caddet-test", {"loss.reach": 4.0}, "P3", "up to 32 pixels", ()),
        (
            "efficientdet-test",
            {"anchor_scale": 3.0},
            "P3",
            "anchors of 24, 30, 38",
            (1.0, 2.0, 0.5),
        ),
        ("dy-efficientdet-test", {}, "P3", "anchors of 32, 40, 51", (1.0, 2.0, 0.5)),
        ("yolov7-test", {}, "P3", "anchors of 3 x 4, 5 x 9", None),
    ],
)
def test_levels_are_described(name, changes, level, words, ratios):
    record = registry.config(name, **changes)
    model = registry.detector_class(name).from_record(record, name)
    found = {one.level: one for one in object_levels.guides(model)}
    assert words in found[level].words and found[level].stride == 2 ** int(level[1:])
    assert ratios is None or found[level].ratios == ratios


def test_queries_have_no_levels():
    assert object_levels.guides(registry.create("detr-test")) == []
