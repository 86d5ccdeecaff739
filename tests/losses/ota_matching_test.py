import collections

import numpy as np
import pytest

from tests.losses import ota_cases
from tfdet.losses import ota
from tfdet.losses.ota_candidates import find_candidates
from tfdet.losses.ota_matching import NO_MATCH, Guesses, match
from tfdet.ops.anchor_grid import YOLOV7, rows

# Published matches of detector 1: (image, anchor, row, column, class), by level.
PUBLISHED = [
    [
        (0, 1, 12, 9, 5),
        *[(0, 1, 12, 10, 5)] * 2,
        (0, 1, 13, 11, 5),
        (0, 0, 13, 9, 5),
        (1, 0, 7, 22, 79),
        (1, 0, 6, 22, 79),
    ],
    [(0, 0, 8, 9, 17), (0, 2, 8, 9, 17), (0, 2, 6, 4, 5), *[(1, 2, 8, 8, 0)] * 3],
    [(0, 0, 4, 5, 17)],
]


def matches_of(targets, raw, grid, image_size, top_k=10):
    """Candidates and the object of each, NumPy."""
    labels = targets["labels"]
    is_known = labels >= 0
    found = find_candidates(targets["boxes"], is_known, grid, image_size)
    guesses = ota._guesses(raw, found)
    matched = match(guesses, targets["boxes"], np.maximum(labels, 0), is_known, top_k)
    return found, np.array(matched)


def test_matches_are_the_published_ones():
    targets = ota_cases.published_targets()
    raw = ota_cases.published_predictions(1)
    found, matched = matches_of(targets, raw, YOLOV7, ota_cases.IMAGE_SIZE)
    constants, number = rows(YOLOV7, ota_cases.IMAGE_SIZE), np.array(found.row)
    levels = [collections.Counter() for _ in range(3)]
    for image, n in np.argwhere(matched != NO_MATCH):
        row = number[image, n]
        level = constants.level[row]
        shape = (constants.anchor_width[row], constants.anchor_height[row])
        anchor = YOLOV7.anchors[level].index(shape)
        y, x = int(constants.cell_y[row]), int(constants.cell_x[row])
        levels[level][
            int(image), anchor, y, x, int(targets["labels"][image, matched[image, n]])
        ] += 1
    assert levels == [collections.Counter(level) for level in PUBLISHED]


def test_numbers_of_matches_of_detector_2_are_the_published_ones():
    targets = ota_cases.published_targets()
    raw = ota_cases.published_predictions(2)
    _, matched = matches_of(targets, raw, YOLOV7, ota_cases.IMAGE_SIZE)
    per_level = (matched != NO_MATCH).reshape(2, 3, -1).sum(axis=(0, 2))
    assert per_level.tolist() == [5, 6, 2]


@pytest.mark.parametrize("top_k", [10, 20])
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_the_slow_way(seed, top_k):
    grid, size = ota_cases.SMALL, ota_cases.SMALL_SIZE
    targets, raw = ota_cases.random_case(seed, slots=8)
    found, matched = matches_of(targets, raw, grid, size, top_k)
    number = np.array(found.row)
    for image in range(len(matched)):
        known = np.flatnonzero(targets["labels"][image] >= 0)
        boxes, labels = (targets[name][image][known] for name in ("boxes", "labels"))
        candidates = ota_cases.slow_candidates(boxes, grid, size)
        one = {name: value[image] for name, value in raw.items()}
        pairs = ota_cases.slow_matches(candidates, boxes, labels, one, grid, size, top_k)
        expected = [(ota_cases.row_number(c, grid, size), known[i]) for c, i in pairs]
        chosen = np.flatnonzero(matched[image] != NO_MATCH)
        assert list(zip(number[image, chosen], matched[image, chosen], strict=True)) == expected


def simple_guesses(boxes, classes=2):
    count = len(boxes)
    return Guesses(
        np.ones((1, count), bool),
        np.float32(boxes)[None],
        np.zeros((1, count), np.float32),
        np.zeros((1, count, classes), np.float32),
    )


def test_an_object_takes_as_many_candidates_as_its_ious_add_up_to():
    box = [0, 0, 10, 10]
    known, labels = np.array([[True]]), np.array([[0]])
    near = simple_guesses([box, [0, 0, 10, 9], [0, 0, 10, 4], [50, 50, 60, 60]])  # 1 + 0.9 + 0.4
    found = np.array(match(near, np.float32([[box]]), labels, known))
    assert found.tolist() == [[0, 0, NO_MATCH, NO_MATCH]]
    far = simple_guesses([[50, 50, 60, 60], [8, 8, 18, 18]])
    found = np.array(match(far, np.float32([[box]]), labels, known))
    assert found.tolist() == [[NO_MATCH, 0]]


def test_a_contested_candidate_goes_where_it_is_cheapest():
    boxes = np.float32([[[0, 0, 10, 10], [0, 0, 10, 8]]])
    one = simple_guesses([[0, 0, 10, 8.2]])
    assert np.array(match(one, boxes, np.array([[0, 0]]), np.ones((1, 2), bool))).tolist() == [[1]]
    sure = one._replace(class_logits=np.float32([[[4, -4]]]))
    found = match(sure, boxes, np.array([[0, 1]]), np.ones((1, 2), bool))
    assert np.array(found).tolist() == [[0]]


def test_certain_predictions_have_finite_costs():
    boxes = np.float32([[[0, 0, 10, 10], [20, 20, 40, 40]]])
    guesses = simple_guesses(boxes[0])
    for logit in (-1000, 1000):
        extreme = guesses._replace(
            object_logits=np.full((1, 2), logit, np.float32),
            class_logits=np.full((1, 2, 2), logit, np.float32),
        )
        found = np.array(match(extreme, boxes, np.array([[0, 1]]), np.ones((1, 2), bool)))
        assert found.tolist() == [[0, 1]]
