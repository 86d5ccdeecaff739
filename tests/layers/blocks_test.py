import keras
import pytest

from tfdet.layers import blocks
from tfdet.layers.blocks import Style


@pytest.mark.parametrize("style", [Style(), Style(width=0.3, depth=0.5), Style(depth=2.0)])
@pytest.mark.parametrize(
    "block",
    [
        blocks.conv(40, strides=2),
        blocks.rep_conv(64),
        blocks.elan(64, 320, convs=6),
        blocks.wide_elan(128, 80),
        blocks.down(80),
        blocks.sppcspc(48),
    ],
)
def test_a_block_returns_the_channels_that_it_says(block, style):
    layer = block.make(style, "some_name")
    assert layer.name == "some_name"
    assert layer(keras.KerasTensor((1, 8, 8, 24))).shape[-1] == block.channels(style)


def test_multiples_round_to_eights_and_to_pairs():
    style = Style(width=0.13, depth=0.5)
    assert [style.filters(n) for n in (8, 64, 128)] == [8, 16, 24]
    assert [style.convs(n) for n in (4, 6)] == [2, 4]
    assert [Style().filters(n) for n in (32, 40, 1280)] == [32, 40, 1280]
    assert Style(depth=0.01).convs(4) == 2


def test_the_style_reaches_the_layers():
    layer = blocks.elan(16, 32).make(Style(batch_norm="frozen", merged=True), "x")
    assert (layer.batch_norm, layer.merged, layer.exit.batch_norm) == ("frozen", True, "frozen")
