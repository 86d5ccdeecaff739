import numpy as np
import pytest

from tfdet.layers.conv_block import ConvBlock


def maps():
    rng = np.random.default_rng(0)
    return [rng.normal(3, 2, (2, size, size, 4)).astype(np.float32) for size in (5, 3)]


def test_each_map_is_normalised_alone_or_with_the_others():
    block = ConvBlock(8, 1, groups=2)
    block(maps())
    # Unit weights that copy the channels make the statistics visible.
    block.conv.kernel.assign(np.tile(np.eye(4, dtype=np.float32), 2)[None, None])
    for joint in (False, True):
        found = block(maps(), joint=joint)
        parts = [x.reshape(2, -1, 4) for x in maps()]
        whole = np.concatenate(parts, axis=1)
        for x, y in zip(parts, found, strict=True):
            source = whole if joint else x
            mean = source.mean(axis=(1, 2), keepdims=True)
            deviation = np.sqrt(source.var(axis=(1, 2), keepdims=True) + 1e-5)
            expected = np.maximum((x - mean) / deviation, 0)
            np.testing.assert_allclose(
                np.reshape(y, (2, -1, 8))[..., :4], expected, rtol=1e-4, atol=1e-4
            )


def test_without_groups_there_is_no_norm():
    block = ConvBlock(8, groups=0)
    block(maps())
    assert [w.name for w in block.weights] == ["kernel", "bias"]


@pytest.mark.parametrize("deformable", [False, True])
def test_the_configuration_comes_back(deformable):
    block = ConvBlock(8, 3, 4, deformable, name="block")
    assert ConvBlock.from_config(block.get_config()).get_config() == block.get_config()
