"""Tests of the places of captions."""

import numpy as np

from tfdet.visualization import captions


def _common(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    return max(width, 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def test_a_caption_stands_on_its_box():
    boxes = np.array([[50.0, 50, 120, 120]])
    places = captions.Places((300, 200), boxes, 2)
    assert places.take(boxes[0], (40, 12), False) == (48, 36, 88, 48)


def test_captions_stay_in_the_picture():
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(-50, 350, (40, 2, 2)), axis=1).reshape(40, 4)
    places = captions.Places((300, 200), boxes, 2)
    taken = [places.take(box, (50, 12), True) for box in boxes]
    taken = np.array(taken)
    assert (taken[:, :2] >= 0).all() and (taken[:, 2:] <= (300, 200)).all()


def test_captions_in_a_crowd_hide_no_caption_and_some_are_left_out():
    rng = np.random.default_rng(1)
    corner = rng.uniform(50, 150, (60, 2))
    boxes = np.concatenate([corner, corner + 30], axis=1)
    places = captions.Places((300, 200), boxes, 2)
    taken = [places.take(box, (50, 12), False) for box in boxes]
    shown = [place for place in taken if place]
    assert taken[0] is not None
    assert 10 < len(shown) < 60
    for i, place in enumerate(shown):
        assert sum(_common(place, other) for other in shown[:i]) <= 0.05 * 50 * 12


def test_a_caption_that_is_needed_stands_somewhere():
    box = np.array([0.0, 0, 40, 12])
    places = captions.Places((40, 12), box[None], 0)
    assert places.take(box, (40, 12), False) is not None
    assert places.take(box, (40, 12), False) is None
    assert places.take(box, (40, 12), True) is not None


def test_a_caption_does_not_hide_a_small_box():
    boxes = np.array([[50.0, 50, 120, 120], [50, 30, 90, 46]])  # the second where it would stand
    places = captions.Places((300, 200), boxes, 2)
    place = places.take(boxes[0], (40, 12), False)
    assert _common(place, boxes[1]) == 0


def test_captions_do_not_hide_the_small_box_that_they_are_of():
    boxes = np.tile(np.array([[100.0, 100, 120, 110]]), (4, 1))
    places = captions.Places((300, 200), boxes, 2)
    for box in boxes:
        assert _common(places.take(box, (60, 14), False), box) == 0


def test_a_caption_larger_than_the_picture_begins_at_its_edge():
    places = captions.Places((30, 20), np.array([[5.0, 5, 10, 10]]), 1)
    assert places.take(np.array([5.0, 5, 10, 10]), (50, 40), False)[:2] == (0, 0)
