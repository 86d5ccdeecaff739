"""What is written for OpenVINO."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.serving import formats

pytest.importorskip("openvino", reason="openvino is not installed; it is an extra of tfdet")


def test_the_best_of_many_are_selected_without_keeping_the_order_of_equals(tmp_path):
    # With it OpenVINO compares each value with each of the best: seconds for EfficientDet's.
    @tf.function(input_signature=[tf.TensorSpec([1, None], tf.float32, name="scores")])
    def select(scores):
        best = tf.cond(
            tf.reduce_sum(scores) > 0,
            lambda: tf.math.top_k(scores, 300).values,
            lambda: tf.zeros([1, 300]),
        )
        _, best = tf.while_loop(
            lambda i, best: i < 2,
            lambda i, best: (i + 1, tf.math.top_k(best, 300).values),
            (0, best),
        )
        return {"best": best}

    form = formats.form("openvino")
    piece = formats.Piece("select", select.get_concrete_function())
    form.write(piece, tmp_path, "float32", [])
    scores = np.random.default_rng(0).random((1, 5000), np.float32)
    found = form.load("select", tmp_path, "float32")({"scores": scores})
    np.testing.assert_array_equal(found["best"], -np.sort(-scores)[:, :300])
    network = (tmp_path / "select.xml").read_text()
    assert network.count('type="TopK"') == 2
    assert 'stable="true"' not in network
