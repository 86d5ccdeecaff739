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
    weight.assign(theirs)
    bias.assign(np.arange(5.0))
    np.testing.assert_array_equal(layer.kernel.numpy()[1, 2, 3], theirs[:, 3, 1, 2])
    np.testing.assert_array_equal(layer.bias.numpy(), np.arange(5.0))


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
