import numpy as np
import pytest
import tensorflow as tf

from tfdet.ops import conditional, portable

PICTURES = tf.constant(np.random.default_rng(0).normal(size=(5, 4, 4, 3)), tf.float32)


def _double(tensors):
    assert tensors["x"].shape[1:] == (4, 4, 3)
    return {
        "y": 2 * tensors["x"],
        "n": tf.cast(tf.reduce_sum(tensors["x"], (1, 2, 3)) * 0, tf.int32),
    }


DEFAULT = {"y": np.zeros((4, 4, 3), np.float32), "n": np.int32(-1)}


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
@pytest.mark.parametrize("chosen", ["00000", "11111", "01101", "10000", ""])
def test_chosen_rows_have_the_function_and_others_the_default(wrap, chosen):
    mask = np.array([c == "1" for c in chosen], bool)
    x = PICTURES[: len(mask)]

    @wrap
    def run(mask, x):
        return conditional.on_rows(_double, mask, {"x": x}, DEFAULT)

    found = run(tf.constant(mask, tf.bool), x)
    np.testing.assert_array_equal(found["y"], np.where(mask[:, None, None, None], 2 * x, 0))
    np.testing.assert_array_equal(found["n"], np.where(mask, 0, -1))


def test_the_function_is_not_run_for_nothing_and_sees_no_other_row():
    seen = []

    def spy(x):
        def record(rows):
            seen.append(rows.numpy().tolist())
            return rows

        return tf.ensure_shape(tf.py_function(record, [x], tf.float32), [None])

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.bool), tf.TensorSpec([None])], autograph=False
    )
    def run(mask, x):
        return conditional.on_rows(spy, mask, x, np.float32(0))

    x = tf.constant([1.0, 2.0, 3.0])
    for mask in ([False] * 3, [True, False, True], [True] * 3):
        run(tf.constant(mask), x)
    run(tf.zeros([0], tf.bool), x[:0])
    assert seen == [[1.0, 3.0], [1.0, 2.0, 3.0]]


@pytest.mark.parametrize("has_nesting", [True, False])
def test_no_condition_is_within_another_where_that_is_asked_for(has_nesting):
    run = tf.function(
        lambda mask, x: conditional.on_rows(tf.sqrt, mask, x, np.float32(0)),
        input_signature=[tf.TensorSpec([None], tf.bool), tf.TensorSpec([None])],
        autograph=False,
    )
    with portable.operations(has_nesting):
        graph = run.get_concrete_function().graph.as_graph_def()
    within = [node for f in graph.library.function for node in f.node_def]
    assert [node.op for node in graph.node if "If" in node.op] == ["StatelessIf"]
    assert any("If" in node.op for node in within) == has_nesting
    np.testing.assert_array_equal(run([True, False, True], [1.0, 2.0, 4.0]), [1, 0, 2])


def test_gradients_reach_the_chosen_rows_only():
    x = tf.Variable([1.0, 4.0, 9.0])

    @tf.function(autograph=False)
    def gradient():
        with tf.GradientTape() as tape:
            y = conditional.on_rows(tf.sqrt, tf.constant([False, True, True]), x, np.float32(0))
            y = tf.reduce_sum(y)
        return tape.gradient(y, x)

    np.testing.assert_allclose(tf.convert_to_tensor(gradient()), [0, 1 / 4, 1 / 6], rtol=1e-6)


def test_an_empty_batch_is_filled_up_for_the_function():
    sizes = []

    def function(x):
        sizes.append(int(x.shape[0]))
        return {"sum": tf.reduce_sum(x, axis=1)}

    assert conditional.at_least_one(function, tf.ones((0, 3)))["sum"].shape == (0,)
    assert conditional.at_least_one(function, tf.ones((2, 3)))["sum"].numpy().tolist() == [3, 3]
    assert sizes == [1, 2]
