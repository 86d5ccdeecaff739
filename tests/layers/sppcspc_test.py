import numpy as np
from keras import ops

from tfdet.layers.sppcspc import SPPCSPC


def pooled(x, size):
    """Max pooling with stride 1, written out; borders are those of the map."""
    half = size // 2
    height, width = x.shape[1:3]
    rows = [slice(max(0, i - half), i + half + 1) for i in range(height)]
    columns = [slice(max(0, j - half), j + half + 1) for j in range(width)]
    return np.stack(
        [np.stack([x[:, r, c].max(axis=(1, 2)) for c in columns], axis=1) for r in rows], axis=1
    )


def test_it_is_the_published_wiring_with_windows_of_5_9_and_13():
    layer = SPPCSPC(4)
    x = np.random.default_rng(0).normal(size=(2, 9, 15, 3)).astype(np.float32)
    found = layer(x)
    cv1, cv2, cv3, cv4, cv5, cv6, cv7 = layer.convs
    x1 = np.array(cv4(cv3(cv1(x))))
    pyramid = np.concatenate([x1, *(pooled(x1, size) for size in (5, 9, 13))], axis=-1)
    expected = cv7(ops.concatenate([cv6(cv5(pyramid)), cv2(x)], axis=-1))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [conv.kernel_size for conv in layer.convs] == [1, 1, 3, 1, 1, 3, 1]
