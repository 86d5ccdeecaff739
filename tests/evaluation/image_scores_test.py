"""Tests of the scores of single images."""

import numpy as np

from tfdet.evaluation import error_kinds, image_scores

A, B, C = (10, 10, 60, 60), (100, 20, 160, 80), (200, 100, 280, 180)


def test_counts_are_those_of_each_image(analysed):
    objects = [[(0, A), (0, B)], [(1, A)], [], [], [(0, A)]]
    rows = [[(0, 0.9, A), (0, 0.4, B)], [(0, 0.9, A), (1, 0.8, A)], [(2, 0.9, A)], [], []]
    one = analysed(objects, rows)
    scores = image_scores.image_scores(one.findings, one.matches, threshold=0.5)
    assert scores.hits.tolist() == [1, 1, 0, 0, 0]
    assert scores.wrong.tolist() == [0, 1, 1, 0, 0]
    assert scores.absent.tolist() == [1, 0, 0, 0, 1]
    assert scores.f1.tolist() == [2 / 3, 2 / 3, 0, 1, 0]


def test_the_worst_come_first_and_those_without_a_mistake_not_at_all():
    columns = np.array([[0, 1, 0], [0, 2, 3], [5, 0, 0], [3, 1, 0], [0, 0, 0]]).T
    scores = image_scores.ImageScores(np.arange(10, 15), *columns)
    assert scores.worst(10).tolist() == [1, 0, 3]
    assert scores.worst(2).tolist() == [1, 0]


def test_the_surest_error_of_each_image_is_an_example(analysed):
    rows = [[(0, 0.9, C), (0, 0.8, C)], [(0, 0.85, C)], [(1, 0.99, A)]]
    one = analysed([[(0, A)], [(0, A)], [(0, A)]], rows)
    background = error_kinds.KINDS.index("background")
    found = image_scores.surest_errors(one.findings, one.errors, background, 5)
    assert one.findings.found.image[found].tolist() == [0, 1]
    assert one.findings.found.scores[found].tolist() == [0.9, 0.85]
    assert len(image_scores.surest_errors(one.findings, one.errors, background, 1)) == 1
