import numpy as np
from keras import ops

from tfdet.layers.max_pool_down import MaxPoolDown

X, OTHER = np.random.default_rng(0).normal(size=(2, 1, 6, 8, 3)).astype(np.float32)


def test_the_strided_branch_comes_first():
    layer = MaxPoolDown(4)
    found = layer(X)
    pooled = layer.pooled(X.reshape(1, 3, 2, 4, 2, 3).max(axis=(2, 4)))
    strided = layer.strided(layer.narrow(X))
    np.testing.assert_allclose(found, ops.concatenate([strided, pooled], axis=-1), atol=1e-6)


def test_the_strided_branch_can_read_another_map():
    layer = MaxPoolDown(4)
    plain, found = layer(X), layer(X, strided_input=OTHER)
    np.testing.assert_array_equal(found[..., 4:], plain[..., 4:])
    np.testing.assert_allclose(found[..., :4], layer(OTHER)[..., :4], atol=1e-6)
