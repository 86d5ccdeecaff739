"""Tests of the confusion matrix."""

import numpy as np

from tfdet.evaluation import confusion

A, B, C = (10, 10, 60, 60), (100, 20, 160, 80), (200, 100, 280, 180)


def _matrix(one, threshold=0.5):
    return confusion.confusion(one.findings, one.pairs, threshold).tolist()


def test_each_object_and_each_detection_stands_in_one_place(analysed):
    objects = [[(0, A), (1, B), (1, C)], [(0, A)]]
    rows = [[(0, 0.9, A), (2, 0.8, B), (0, 0.7, (0, 150, 50, 190))], [(0, 0.4, A)]]
    assert _matrix(analysed(objects, rows)) == [
        [1, 0, 0, 1],  # a cat found, and one below the threshold
        [0, 0, 1, 1],  # a dog taken for an emu, and one not found
        [0, 0, 0, 0],
        [1, 0, 0, 0],  # a cat where there is none
    ]


def test_an_object_is_taken_by_its_own_class_first(analysed):
    """A surer detection of another class does not take what its own class finds."""
    one = analysed([[(0, A)]], [[(1, 0.9, A), (0, 0.6, A)]])
    assert _matrix(one) == [[1, 0, 0, 0], [0] * 4, [0] * 4, [0, 1, 0, 0]]


def test_crowds_do_not_count(analysed):
    one = analysed([[(0, A, True), (1, B)]], [[(0, 0.9, A), (2, 0.9, A)]])
    assert _matrix(one) == [[0] * 4, [0, 0, 0, 1], [0] * 4, [0, 0, 1, 0]]


def test_without_detections_all_objects_are_not_found(analysed):
    assert _matrix(analysed([[(0, A)], []], [[], []])) == [[0, 0, 0, 1], [0] * 4, [0] * 4, [0] * 4]


def test_sums_are_those_of_objects_and_of_detections(lively):
    from tfdet.evaluation import analysis, findings

    one = analysis.analyse(findings.of(lively))
    matrix = confusion.confusion(one.findings, one.pairs, 0.5)
    labels = one.findings.truth.labels[~one.findings.truth.is_crowd]
    np.testing.assert_array_equal(matrix[:-1].sum(axis=1), np.bincount(labels, minlength=3))
    sure = (one.findings.found.scores >= 0.5) & ~one.matches.is_ignored
    assert matrix[:, :-1].sum() == sure.sum()


def test_most_frequent_leaves_out_what_is_right_and_the_background():
    matrix = np.array([[9, 2, 0, 7], [5, 9, 0, 0], [0, 1, 0, 0], [8, 0, 0, 0]])
    assert confusion.most_frequent(matrix) == [(1, 0, 5), (0, 1, 2), (2, 1, 1)]
    assert confusion.most_frequent(matrix, count=1) == [(1, 0, 5)]
    assert confusion.most_frequent(np.zeros((2, 2), int)) == []
