import keras
import numpy as np
import pytest

from tfdet.layers import per_region

KINDS = [
    (per_region.RegionConv2D, keras.layers.Conv2D, {"padding": "same"}),
    (per_region.RegionConv2DTranspose, keras.layers.Conv2DTranspose, {"strides": 2}),
]


@pytest.mark.parametrize(("region", "plain", "options"), KINDS)
def test_each_region_gets_what_the_plain_layer_gives(region, plain, options):
    features = np.random.default_rng(0).normal(size=(2, 5, 6, 6, 3)).astype(np.float32)
    layer, single = region(4, 2, **options), plain(4, 2, **options)
    found = np.asarray(layer(features))
    single.build((None, 6, 6, 3))
    single.set_weights(layer.get_weights())
    expected = np.asarray(single(features.reshape(10, 6, 6, 3)))
    np.testing.assert_allclose(found, expected.reshape(found.shape), atol=1e-6)
    symbolic = layer(keras.KerasTensor((None, 5, 6, 6, 3)))
    assert tuple(symbolic.shape[1:]) == found.shape[1:]
