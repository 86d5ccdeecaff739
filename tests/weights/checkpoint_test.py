"""Layouts of PyTorch's tensors."""

import keras
import numpy as np

from tfdet.weights import checkpoint


def test_kernels_are_turned_and_vectors_are_kept():
    layer = keras.layers.Conv2D(5, (2, 3))
    layer.build((None, 8, 8, 4))
    weight, bias = checkpoint.kernel("w", layer), checkpoint.vector("b", layer.bias)
    assert (weight.shape, bias.shape) == ((5, 4, 2, 3), (5,))
    theirs = np.random.default_rng(0).normal(size=weight.shape).astype("float32")
    assert weight.assign(theirs) and bias.assign(np.arange(5.0))
    np.testing.assert_array_equal(layer.kernel.numpy()[1, 2, 3], theirs[:, 3, 1, 2])
    np.testing.assert_array_equal(layer.bias.numpy(), np.arange(5.0))


def test_an_array_of_another_size_is_not_taken():
    vector = checkpoint.vector("b", keras.Variable(np.ones(4, "float32")))
    assert not vector.assign(np.zeros(5))
    np.testing.assert_array_equal(vector.variable.numpy(), np.ones(4))
    assert not vector._replace(variable=None).assign(np.zeros(4))


def test_tensors_of_tensorflow_are_not_turned():
    values = np.arange(24.0, dtype="float32").reshape(1, 2, 3, 4)
    entry = checkpoint.unchanged("w", keras.Variable(np.zeros_like(values)))
    assert entry.shape == values.shape and entry.assign(values)
    np.testing.assert_array_equal(entry.variable.numpy(), values)


def test_a_batch_norm_has_four_weights_and_a_counter():
    bn = keras.layers.BatchNormalization()
    bn.build((None, 8, 8, 4))
    entries = list(checkpoint.batch_norm("bn1", bn))
    assert {entry.name for entry in entries if entry.variable is not None} == {
        "bn1.weight",
        "bn1.bias",
        "bn1.running_mean",
        "bn1.running_var",
    }
    assert [x.name for x in entries if x.variable is None] == ["bn1.num_batches_tracked"]
