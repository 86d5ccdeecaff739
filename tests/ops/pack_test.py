import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

from tests.ops import pack_cases
from tfdet.ops import pack as pack_ops
from tfdet.ops import pack_native

# Four boxes around a gap: no straight cut misses all of them.
PINWHEEL = pack_ops.Layout(
    5, 5, ((0, 0, 3, 2), (3, 0, 5, 3), (2, 3, 5, 5), (0, 2, 2, 5)), (0, 1, 2, 3)
)


@pytest.fixture(params=["portable", "native"])
def form(request, monkeypatch):
    """Each test runs with both implementations."""
    if request.param == "native":
        pack_cases.require_native()
    monkeypatch.setenv("TFDET_PACK", request.param)
    return request.param


@pytest.mark.parametrize("dtype", pack_cases.DTYPES)
@pytest.mark.parametrize("pattern", pack_ops.PATTERNS)
def test_packing_copies_each_map_into_its_box(form, pattern, dtype):
    layout = pack_ops.layout(pack_cases.level_sizes(128, 256), pattern)
    maps = pack_cases.random_maps(layout, dtype=dtype)
    packed = pack_ops.pack(maps, pattern)
    assert packed.dtype == dtype
    pack_cases.assert_same_bits(packed, pack_cases.slowly_packed(maps, layout))


def test_any_disjoint_boxes_can_be_packed(form):
    random = np.random.default_rng(0)
    for layout in [PINWHEEL, *(pack_cases.random_layout(random) for _ in range(60))]:
        maps = pack_cases.random_maps(layout)
        packed = pack_ops.pack(maps, layout)
        pack_cases.assert_same_bits(packed, pack_cases.slowly_packed(maps, layout))
        for x, y in zip(maps, pack_ops.unpack(packed, layout), strict=True):
            pack_cases.assert_same_bits(x, y)


@pytest.mark.parametrize("pattern", pack_ops.PATTERNS)
def test_unpacking_gives_the_maps_back(form, pattern):
    layout = pack_ops.layout(pack_cases.level_sizes(256, 128), pattern)
    maps = pack_cases.random_maps(layout)
    for x, y in zip(maps, pack_ops.unpack(pack_ops.pack(maps, layout), layout), strict=True):
        pack_cases.assert_same_bits(x, y)


@pytest.mark.parametrize(("batch", "channels"), [(0, 3), (2, 0), (1, 1)])
def test_batch_and_channels_may_be_empty_and_unknown(form, batch, channels):
    layout = pack_ops.layout(pack_cases.level_sizes(64, 96), 4)

    @tf.function(
        input_signature=[[tf.TensorSpec((None, h, w, None)) for h, w in layout.sizes]],
        autograph=False,
    )
    def there_and_back(maps):
        packed = pack_ops.pack(maps, 4)
        assert packed.shape.as_list()[1:3] == [layout.height, layout.width]
        found = pack_ops.unpack(packed, layout)
        assert [tuple(x.shape[1:3]) for x in found] == list(layout.sizes)
        return found

    maps = pack_cases.random_maps(layout, batch, channels)
    for x, y in zip(maps, there_and_back(maps), strict=True):
        pack_cases.assert_same_bits(x, y)


def test_wrong_maps_are_refused(form):
    layout = pack_ops.layout(pack_cases.level_sizes(64, 64), 4)
    maps = pack_cases.random_maps(layout)
    with pytest.raises(ValueError, match="takes 8 maps"):
        pack_ops.pack(maps[:5], 4)
    with pytest.raises(ValueError, match="holds maps of sizes"):
        pack_ops.pack(maps[:5], layout)
    with pytest.raises(ValueError, match=r"map 1 must be \[batch"):
        pack_ops.pack([maps[0], maps[1][0], *maps[2:]], layout)
    with pytest.raises(ValueError, match=r"map 2 is .*float16"):
        pack_ops.pack([*maps[:2], tf.cast(maps[2], "float16"), *maps[3:]], layout)
    with pytest.raises(ValueError, match="12x8 cells"):
        pack_ops.unpack(maps[0], layout)


def test_the_gradient_of_one_is_the_other(form):
    layout = pack_ops.layout(pack_cases.level_sizes(64, 96), 4)
    maps = pack_cases.random_maps(layout)
    upstream = tf.random.stateless_normal((2, layout.height, layout.width, 3), seed=(0, 1))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        total = tf.reduce_sum(pack_ops.pack(maps, layout) * upstream)
    expected = pack_ops.unpack_portable(upstream, layout)
    for x, y in zip(tape.gradient(total, maps), expected, strict=True):
        pack_cases.assert_same_bits(x, y)
    with tf.GradientTape() as tape:
        tape.watch(upstream)
        parts = pack_ops.unpack(upstream, layout)
        total = sum(tf.reduce_sum(x * y) for x, y in zip(parts, maps, strict=True))
    gradient = tape.gradient(total, upstream)
    pack_cases.assert_same_bits(gradient, pack_cases.slowly_packed(maps, layout))


def test_gradients_agree_with_finite_differences(form):
    layout = pack_ops.layout(pack_cases.level_sizes(64, 64), 2)
    maps = pack_cases.random_maps(layout, batch=1, channels=1)

    def packed(*maps):
        return tf.square(pack_ops.pack(maps, layout))

    for theory, measured in zip(*tf.test.compute_gradient(packed, maps, delta=0.01), strict=True):
        np.testing.assert_allclose(theory, measured, atol=2e-3)
    packed = pack_ops.pack(maps, layout)

    def unpacked(packed):
        return tf.concat(
            [tf.reshape(tf.square(x), [-1]) for x in pack_ops.unpack(packed, layout)], 0
        )

    theory, measured = tf.test.compute_gradient(unpacked, [packed], delta=0.01)
    np.testing.assert_allclose(theory[0], measured[0], atol=2e-3)


def test_gradients_have_gradients_and_exist_for_maps_left_out(form):
    layout = pack_ops.layout(pack_cases.level_sizes(64, 64), 3)
    packed = pack_ops.pack(pack_cases.random_maps(layout), layout)

    @tf.function(autograph=False)
    def second(packed):
        with tf.GradientTape() as outer:
            outer.watch(packed)
            with tf.GradientTape() as inner:
                inner.watch(packed)
                first_map, *_ = pack_ops.unpack(packed, layout)
                total = tf.reduce_sum(first_map**3)
            gradient = inner.gradient(total, packed)
        return outer.gradient(gradient, packed)

    inside = layout.map_index()[None, :, :, None] == 0
    np.testing.assert_allclose(second(packed), np.where(inside, 6 * packed.numpy(), 0), rtol=1e-6)


@hypothesis.given(
    height=strategies.integers(2, 7),
    width=strategies.integers(2, 7),
    pattern=strategies.sampled_from(pack_ops.PATTERNS),
    dtype=strategies.sampled_from(pack_cases.DTYPES),
    batch=strategies.integers(0, 3),
    channels=strategies.sampled_from([0, 1, 3, 8, 33]),
    seed=strategies.integers(0, 2**31),
)
@hypothesis.settings(max_examples=150, deadline=None)
def test_native_and_portable_are_equal_bit_for_bit(
    height, width, pattern, dtype, batch, channels, seed
):
    pack_cases.require_native()
    unit = 128 if pattern == 5 else 32
    layout = pack_ops.layout(pack_cases.level_sizes(unit * height, unit * width), pattern)
    random = np.random.default_rng(seed)
    shapes = [(batch, h, w, channels) for h, w in layout.sizes]
    # Any bits, signalling NaNs and negative zeros included.
    kind = tf.as_dtype(dtype)
    bits = [random.integers(0, 256, (*shape, kind.size), np.uint8) for shape in shapes]
    maps = [tf.bitcast(x, kind) for x in bits]
    packed = pack_native.pack(maps, layout)
    pack_cases.assert_same_bits(packed, pack_ops.pack_portable(maps, layout))
    for x, y in zip(pack_native.unpack(packed, layout), maps, strict=True):
        pack_cases.assert_same_bits(x, y)
