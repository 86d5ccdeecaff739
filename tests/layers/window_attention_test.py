import keras
import numpy as np
import pytest

from tfdet.layers.window_attention import WindowAttention


def naive(layer, x, window, shift, heads):
    """One query after the other, over all keys of the padded map."""
    (qkv, qkv_bias), (out, out_bias) = (
        [np.array(w, np.float64) for w in dense.weights] for dense in (layer.qkv, layer.project)
    )
    table = np.array(layer.position_bias)
    height, width, channels = x.shape
    padded = np.zeros((-(-height // window) * window, -(-width // window) * window, channels))
    padded[:height, :width] = x
    cells = list(np.ndindex(*padded.shape[:2]))
    values = {cell: (padded[cell] @ qkv + qkv_bias).reshape(3, heads, -1) for cell in cells}
    result = np.zeros_like(x, dtype=np.float64)
    for query in np.ndindex(height, width):
        own = [(place - shift) // window for place in query]
        keys = [c for c in cells if [(place - shift) // window for place in c] == own]
        mixed = []
        for head in range(heads):
            logits = []
            for key in keys:
                down, right = (q - k + window - 1 for q, k in zip(query, key, strict=True))
                dot = values[query][0, head] @ values[key][1, head]
                bias = table[down * (2 * window - 1) + right, head]
                logits.append(dot / np.sqrt(channels // heads) + bias)
            chances = np.exp(np.array(logits) - max(logits))
            chances /= chances.sum()
            parts = [p * values[key][2, head] for p, key in zip(chances, keys, strict=True)]
            mixed.append(np.sum(parts, axis=0))
        result[query] = np.concatenate(mixed) @ out + out_bias
    return result


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("size", [(6, 6), (7, 4), (2, 3), (1, 8)])
def test_equals_the_naive_implementation(size, shift):
    keras.utils.set_random_seed(0)
    layer = WindowAttention(2, 3, shift)
    x = np.random.default_rng(0).normal(size=(2, *size, 8)).astype(np.float32)
    layer(x)
    for variable in layer.weights:
        variable.assign(keras.random.normal(variable.shape, stddev=0.5, seed=3))
    found = layer(x)
    for b in range(2):
        np.testing.assert_allclose(found[b], naive(layer, x[b], 3, shift, 2), atol=1e-4)


def test_the_configuration_comes_back():
    layer = WindowAttention(2, 3, 1, name="a")
    assert WindowAttention.from_config(layer.get_config()).get_config() == layer.get_config()
