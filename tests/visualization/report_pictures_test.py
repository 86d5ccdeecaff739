"""Tests of the report's pictures."""

import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from tests.evaluation import planted
from tfdet.evaluation import analysis, error_kinds, findings
from tfdet.visualization import draw, report_pictures

A, B, C = (10, 10, 60, 60), (100, 20, 160, 80), (200, 100, 280, 180)


def _gallery(*args, **kwargs):
    one = analysis.analyse(findings.of(planted.evaluated(*args, **kwargs)))
    return report_pictures.Gallery(one)


def _pixels(picture):
    content = base64.b64decode(picture.uri.removeprefix("data:image/jpeg;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    assert pixels.shape == (picture.height, picture.width, 3)
    return pixels.astype(int)


def _has_colour(picture, label):
    apart = np.abs(_pixels(picture) - draw.class_color(label)).max(-1)  # JPEG changes it a little
    return (apart < 40).sum() > 50


def test_an_image_is_shown_with_its_truth_and_with_what_was_found():
    rows = [[(0, 0.9, A), (1, 0.8, C)]]
    gallery = _gallery([[(0, A), (2, B)]], rows)
    (shown,) = gallery.shown([0])
    assert shown.truth.words == "2 objects, 1 of them found"
    assert shown.detections.words == "1 detection, 0 of them wrong"
    assert [_has_colour(shown.truth, label) for label in range(3)] == [True, False, True]
    assert [_has_colour(shown.detections, label) for label in range(3)] == [True, False, False]
    assert max(_pixels(shown.truth).shape) == 520


def test_the_truth_is_left_of_the_detections():
    (shown,) = _gallery([[(0, A)]], [[(0, 0.9, A)]]).shown([0])
    pair = report_pictures.side_by_side(shown, "a caption")
    assert pair.startswith('<figure class="pair">') and pair.count("<img") == 2
    assert pair.index(shown.truth.words) < pair.index(shown.detections.words)


def test_only_what_reaches_the_threshold_is_drawn():
    rows = [[(0, 0.9, A), (0, 0.8, B), (1, 0.5, C)]]
    (shown,) = _gallery([[(0, A), (0, B)]], rows).shown([0])
    assert shown.detections.words == "2 detections, 0 of them wrong"


@pytest.mark.parametrize(
    ("detection", "kind", "words"),
    [
        ((1, 0.9, A), "class", "dog 0.90, cat truth"),
        ((0, 0.9, (10, 10, 60, 30)), "location", "cat 0.90, cat truth"),
        ((1, 0.9, (10, 10, 60, 30)), "both", "dog 0.90, cat truth"),
        ((1, 0.9, C), "background", "dog 0.90"),
    ],
)
def test_an_example_shows_the_error_and_the_object(detection, kind, words):
    gallery = _gallery([[(0, A)], []], [[detection], []])
    found = {name: list(gallery.examples(name)) for name in error_kinds.OF_DETECTIONS}
    assert [name for name, examples in found.items() if examples] == [kind]
    ((position, picture),) = found[kind]
    assert (position, gallery.name(position), picture.words) == (0, "0000.png", words)
    assert _has_colour(picture, detection[0])
    assert _has_colour(picture, 0) == ("truth" in words or detection[0] == 0)


def test_missed_objects_are_shown_the_largest_first():
    gallery = _gallery([[(0, A)], [(1, C), (0, A)], [(2, B)]], [[], [], [(2, 0.9, B)]])
    assert [(i, x.words) for i, x in gallery.examples("missed")] == [
        (1, "dog truth"),
        (0, "cat truth"),
    ]


def test_an_image_that_cannot_be_read_is_left_out():
    evaluator = planted.evaluated([[(0, A)], [(0, A)]], [[], []])
    one = findings.of(evaluator)
    render = one.dataset.render
    broken = dataclasses.replace(one.dataset, render=lambda i: render(i) if i else b"no image")
    gallery = report_pictures.Gallery(analysis.analyse(dataclasses.replace(one, dataset=broken)))
    assert [shown.position for shown in gallery.shown([0, 1])] == [1]
    assert [position for position, _ in gallery.examples("missed")] == [1]


def test_masks_are_tinted():
    def outline(box):
        left, top, right, bottom = box
        return [[left, top, right, top, right, bottom, left, bottom]]

    objects, rows = [[(0, C)]], [[(0, 0.9, C)]]
    plain, masked = (
        next(_gallery(objects, rows, **more).shown([0]))
        for more in ({}, {"segmentations": outline, "masks": True})
    )
    middle = slice(220, 270), slice(400, 440)
    for name in ("truth", "detections"):
        before, after = (_pixels(getattr(x, name))[middle] for x in (plain, masked))
        assert np.abs(before - 120).max() < 10
        assert np.abs(after - (np.array(draw.class_color(0)) + 120) / 2).max() < 20


@pytest.mark.parametrize("box", [(0, 0, 300, 200), (295, 195, 300, 200), (-20, 50, 0.5, 60)])
def test_crops_at_and_beyond_the_border(box):
    gallery = _gallery([[(0, A)]], [[(1, 0.9, box)]])
    ((_, picture),) = gallery.examples("background")
    assert max(_pixels(picture).shape[:2]) == 300


def test_rows_are_found_by_their_ids():
    gallery = _gallery([[(0, A)], [], []], [[], [], []])
    assert gallery.positions([{"id": 2}, {"id": 0}]) == [2, 0]
