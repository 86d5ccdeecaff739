import keras
import numpy as np
import pytest

from tfdet.backbones import yolov7
from tfdet.backbones.yolov7 import YoloV7Backbone
from tfdet.layers.blocks import Style

SMALL = Style(width=1 / 32, depth=0.5)

# Channels of the taps, and where a first detector's features are added.
PUBLISHED = {
    "v7": ((64, 256, 512, 1024, 1024), (64, 128, 256, 512, 1024)),
    "x": ((80, 320, 640, 1280, 1280), (80, 160, 320, 640, 1280)),
    "w6": ((64, 128, 256, 512, 768, 1024), (128, 256, 512, 768, 1024)),
}


@pytest.mark.parametrize("variant", PUBLISHED)
def test_channels_are_the_published_ones(variant):
    taps, joints = PUBLISHED[variant]
    style = Style()
    assert tuple(yolov7.tap_channels(variant, style).values()) == taps
    assert tuple(yolov7.joint_channels(variant, style).values()) == joints


@pytest.mark.parametrize("variant", PUBLISHED)
def test_taps_have_the_channels_that_are_told_and_halve_from_level_to_level(variant):
    taps = YoloV7Backbone(variant, SMALL)(keras.KerasTensor((1, 128, 192, 3)))
    channels = yolov7.tap_channels(variant, SMALL)
    expected = {
        name: (1, 128 >> int(name[1:]), 192 >> int(name[1:]), width)
        for name, width in channels.items()
    }
    assert {name: tuple(x.shape) for name, x in taps.items()} == expected


@pytest.mark.parametrize("variant", PUBLISHED)
def test_maps_are_added_where_their_level_begins(variant):
    backbone = YoloV7Backbone(variant, SMALL)
    random = np.random.default_rng(0)
    images = random.uniform(size=(1, 64, 64, 3)).astype(np.float32)
    plain = backbone(images)
    joints = yolov7.joint_channels(variant, SMALL)
    for level, channels in joints.items():
        size = 64 >> int(level[1:])
        added = random.normal(size=(1, size, size, channels)).astype(np.float32)
        changed = backbone(images, added={level: added})
        for name, x in changed.items():
            is_same = np.array_equal(x, plain[name])
            assert is_same == (int(name[1:]) < int(level[1:])), (level, name)
        # By hand: the level's entry, the sum, the level's body.
        x = plain[f"P{int(level[1:]) - 1}"] if level != "P1" else images
        for layer in backbone.entries[level]:
            x = layer(x)
        x = x + added
        for layer in backbone.bodies[level]:
            x = layer(x)
        np.testing.assert_allclose(changed[level], x, atol=1e-5)


def test_the_configuration_makes_the_same_backbone():
    config = YoloV7Backbone("x", SMALL, name="b").get_config()
    assert YoloV7Backbone.from_config(config).get_config() == config
