import numpy as np
import pytest
import tensorflow as tf

from tfdet.ops import pack as pack_ops

DTYPES = ("float32", "float16", "bfloat16")


def _sizes(height, width, num_levels=5, stride=8):
    sizes = [(-(-height // stride), -(-width // stride))]
    while len(sizes) < num_levels:
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


def _maps(layout, batch=2, channels=3, dtype="float32", seed=0):
    random = np.random.default_rng(seed)
    shapes = [(batch, h, w, channels) for h, w in layout.sizes]
    return [tf.cast(random.normal(size=shape), dtype) for shape in shapes]


def _slowly_packed(maps, layout):
    """Copies map by map into zeros, in NumPy."""
    batch, _, _, channels = maps[0].shape
    packed = np.zeros((batch, layout.height, layout.width, channels), maps[0].numpy().dtype)
    for (x0, y0, x1, y1), x in zip(layout.boxes, maps, strict=True):
        packed[:, y0:y1, x0:x1] = x.numpy()
    return packed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", pack_ops.PATTERNS)
def test_packing_copies_each_map_into_its_box(pattern, dtype):
    layout = pack_ops.layout(_sizes(128, 256), pattern)
    maps = _maps(layout, dtype=dtype)
    packed = pack_ops.pack(maps, pattern)
    assert packed.dtype == dtype
    np.testing.assert_array_equal(packed, _slowly_packed(maps, layout))


@pytest.mark.parametrize("pattern", pack_ops.PATTERNS)
def test_unpacking_gives_the_maps_back(pattern):
    layout = pack_ops.layout(_sizes(256, 128), pattern)
    maps = _maps(layout)
    for x, y in zip(maps, pack_ops.unpack(pack_ops.pack(maps, layout), layout), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(("batch", "channels"), [(0, 3), (2, 0), (1, 1)])
def test_batch_and_channels_may_be_empty_and_unknown(batch, channels):
    layout = pack_ops.layout(_sizes(64, 96), 4)

    @tf.function(input_signature=[[tf.TensorSpec((None, h, w, None)) for h, w in layout.sizes]])
    def there_and_back(maps):
        packed = pack_ops.pack(maps, 4)
        assert packed.shape.as_list()[1:3] == [layout.height, layout.width]
        return pack_ops.unpack(packed, layout)

    maps = _maps(layout, batch, channels)
    for x, y in zip(maps, there_and_back(maps), strict=True):
        np.testing.assert_array_equal(x, y)


def test_wrong_maps_are_refused():
    layout = pack_ops.layout(_sizes(64, 64), 4)
    maps = _maps(layout)
    with pytest.raises(ValueError, match="takes 8 maps"):
        pack_ops.pack(maps[:5], 4)
    with pytest.raises(ValueError, match="holds maps of sizes"):
        pack_ops.pack(maps[:5], layout)
    with pytest.raises(ValueError, match=r"map 1 must be \[batch"):
        pack_ops.pack([maps[0], maps[1][0], *maps[2:]], layout)
    with pytest.raises(ValueError, match="12x8 cells"):
        pack_ops.unpack(maps[0], layout)
