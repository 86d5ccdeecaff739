import keras
import pytest

from tfdet.backbones.yolov7 import tap_channels
from tfdet.layers.blocks import Style
from tfdet.necks.yolov7 import YoloV7Neck

PUBLISHED = {
    "v7": (256, 512, 1024),
    "x": (320, 640, 1280),
    "w6": (256, 512, 768, 1024),
}


def taps(variant, style):
    return {
        name: keras.KerasTensor((1, 256 >> int(name[1:]), 128 >> int(name[1:]), width))
        for name, width in tap_channels(variant, style).items()
    }


@pytest.mark.parametrize("variant", PUBLISHED)
def test_levels_leave_with_the_published_channels(variant):
    maps = YoloV7Neck(variant)(taps(variant, Style()))
    expected = {
        f"P{i}": (1, 256 >> i, 128 >> i, width) for i, width in enumerate(PUBLISHED[variant], 3)
    }
    assert {name: tuple(x.shape) for name, x in maps.items()} == expected


def test_auxiliary_maps_are_those_of_the_way_down():
    style = Style(width=1 / 32, depth=0.5)
    features = taps("w6", style)
    maps = YoloV7Neck("w6", style, auxiliary=True)(features)
    assert list(maps) == [*(f"P{i}" for i in range(3, 7)), *(f"aux_P{i}" for i in range(3, 7))]
    full = YoloV7Neck("w6", auxiliary=True)(taps("w6", Style()))
    assert [full[f"aux_P{i}"].shape[-1] for i in range(3, 7)] == [320, 640, 960, 1280]


def test_the_configuration_makes_the_same_neck():
    config = YoloV7Neck("w6", Style(depth=0.5), True, name="n").get_config()
    assert YoloV7Neck.from_config(config).get_config() == config
