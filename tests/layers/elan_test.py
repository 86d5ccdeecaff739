import keras
import numpy as np
import pytest
from keras import ops

from tfdet.layers.elan import ELAN

X = np.random.default_rng(0).normal(size=(1, 5, 6, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("convs", "keeps_all", "kept"),
    [(4, False, (3, 1)), (6, False, (5, 3, 1)), (4, True, (3, 2, 1, 0)), (2, True, (1, 0))],
)
def test_the_chain_starts_at_the_second_and_the_newest_map_comes_first(convs, keeps_all, kept):
    layer = ELAN(8, 4, 6, convs, keeps_all)
    found = layer(X)
    first, second = layer.shortcut(X), layer.entry(X)
    chain, y = [], second
    for conv in layer.chain:
        y = conv(y)
        chain.append(y)
    joined = ops.concatenate([*(chain[i] for i in kept), second, first], axis=-1)
    np.testing.assert_allclose(found, layer.exit(joined), atol=1e-6)


def test_widths_are_those_asked_for():
    layer = ELAN(8, 4, 6)
    assert layer(keras.KerasTensor((2, 5, 6, 3))).shape == (2, 5, 6, 6)
    widths = [part.filters for part in (layer.shortcut, layer.entry, *layer.chain, layer.exit)]
    assert widths == [8, 8, 4, 4, 4, 4, 6]
    config = layer.get_config()
    assert ELAN.from_config(config).get_config() == config
