"""Equations 5 to 8 by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.losses.path_similarity import (
    code_similarity,
    path_similarity,
    path_similarity_loss,
)


def test_codes_agree_where_both_are_absent_too():
    codes = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]], np.float32)
    expected = [[1, 1, 0.75, 0], [1, 1, 0.75, 0], [0.75, 0.75, 1, 0.25], [0, 0, 0.25, 1]]
    np.testing.assert_allclose(code_similarity(codes), expected)


def test_wanted_similarities_are_the_five_of_the_paper():
    wanted = np.array([0, 0.25, 0.5, 0.75, 1]) * (0.95 - 0.6) + 0.6
    np.testing.assert_allclose(wanted, [0.6, 0.6875, 0.775, 0.8625, 0.95])
    one = np.ones((2, 3), np.float32)  # equal gates: similarity 1
    base = np.zeros((2, 4), np.float32)
    for agree, similarity in enumerate(wanted):
        codes = base.copy()
        codes[1, agree:] = 1
        loss = path_similarity_loss(one, codes, 0.6, 0.95)
        assert float(loss) == pytest.approx((1 - similarity) ** 2 / 2, rel=1e-4)


def test_three_images_by_hand():
    gates = np.array([[1, 0], [0, 2], [3, 3]], np.float32)
    np.testing.assert_allclose(path_similarity(gates)[0], [1, 0, 0.5**0.5], rtol=1e-5)
    codes = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]], np.float32)
    expected = ((0 - 0.95) ** 2 + 2 * (0.5**0.5 - 0.775) ** 2) / 3
    loss = path_similarity_loss(gates, codes, 0.6, 0.95)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_one_replica_is_the_whole_batch():
    gates, codes = np.random.default_rng(0).random((2, 4, 4)).astype(np.float32)
    losses = [
        path_similarity_loss(gates, np.round(codes), 0.6, 0.95, per_replica)
        for per_replica in (False, True)
    ]
    assert float(losses[0]) == float(losses[1]) > 0


ALONE = np.zeros((1, 4), np.float32)


def test_one_image_and_closed_gates_have_finite_gradients():
    assert float(path_similarity_loss(np.ones((1, 3), np.float32), ALONE, 0.6, 0.95)) == 0
    gates = tf.Variable(np.array([[0, 0, 0], [0.2, 0, 0.9]], np.float32))
    with tf.GradientTape() as tape:
        loss = path_similarity_loss(gates, np.zeros((2, 4), np.float32), 0.6, 0.95)
    assert float(loss) == pytest.approx(0.95**2 / 2, rel=1e-5)
    assert np.isfinite(tape.gradient(loss, gates)).all()
