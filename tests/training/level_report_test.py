"""The report of what levels learn: of FCOS at its published reach, of anchors, of no objects.

That a training begins with it: trainer_test.py.
"""

import dataclasses
import re

import numpy as np
import pytest

from tfdet import registry
from tfdet.data import sources
from tfdet.training.level_report import level_report


@pytest.fixture(scope="module")
def shapes():
    return sources.open_dataset("shapes:train:60")


def test_in_small_images_the_published_reach_leaves_all_to_one_level(shapes):
    model = registry.create("fcos-test", image_size=(160, 160), **{"loss.reach": 8.0})
    report = level_report(model, shapes)
    assert report.levels["P3"] > 0.95 and sum(report.levels.values()) == pytest.approx(1)
    assert "P3 alone learns nearly all objects; change model.loss.reach" in report.lines()[1]
    assert report.objects == len(shapes.boxes) and report.poor is None


def test_the_default_reach_uses_more_levels(shapes):
    report = level_report(registry.create("fcos-test", image_size=(160, 160)), shapes)
    assert all(0.1 < report.levels[name] < 0.8 for name in ("P3", "P4"))
    assert report.levels["P5"] > 0
    assert len(report.lines()) == 1


def test_objects_that_no_anchor_fits_are_counted(shapes):
    model = registry.create("retinanet-test", image_size=(160, 160), anchor_scale=32.0)
    report = level_report(model, shapes)
    assert report.poor > 0.5 * report.objects
    said = report.lines()[-1]
    assert re.search(r"no anchor with an IoU of 0.5; change model.anchor_scale", said)


def test_objects_hidden_by_smaller_ones_are_counted(shapes):
    twice = dataclasses.replace(
        shapes.subset(1),
        box_offsets=np.array([0, 2]),
        boxes=np.array([[10, 10, 60, 60], [10, 10, 60, 60]], np.float32),
        labels=np.zeros(2, np.int32),
        is_crowd=np.zeros(2, bool),
        areas=np.full(2, 2500.0, np.float32),
    )
    report = level_report(registry.create("fcos-test", image_size=(64, 64)), twice)
    assert (report.objects, report.unlearned) == (2, 1)
    assert "1 objects (50.0 %) are learned by no prediction" in "\n".join(report.lines())


def test_nothing_is_reported_where_nobody_can_say(shapes):
    assert level_report(registry.create("yolov7-test"), shapes) is None
    none = dataclasses.replace(
        shapes.subset(1),
        box_offsets=np.array([0, 0]),
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int32),
        is_crowd=np.zeros(0, bool),
        areas=np.zeros(0, np.float32),
    )
    assert level_report(registry.create("fcos-test"), none) is None
