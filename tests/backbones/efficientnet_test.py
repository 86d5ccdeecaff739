import keras
import numpy as np
import pytest

from tfdet.backbones import efficientnet
from tfdet.backbones.efficientnet import EfficientNet

# Stem, stage widths, stage repeats, and number of blocks of each scale.
_B0_WIDTHS = (32, 16, 24, 40, 80, 112, 192, 320)
LAYOUTS = {
    "b0": (_B0_WIDTHS, (1, 2, 2, 3, 3, 4, 1), 16),
    "b1": (_B0_WIDTHS, (2, 3, 3, 4, 4, 5, 2), 23),
    "b2": ((32, 16, 24, 48, 88, 120, 208, 352), (2, 3, 3, 4, 4, 5, 2), 23),
    "b3": ((40, 24, 32, 48, 96, 136, 232, 384), (2, 3, 3, 5, 5, 6, 2), 26),
    "b4": ((48, 24, 32, 56, 112, 160, 272, 448), (2, 4, 4, 6, 6, 8, 2), 32),
    "b5": ((48, 24, 40, 64, 128, 176, 304, 512), (3, 5, 5, 7, 7, 9, 3), 39),
    "b6": ((56, 32, 40, 72, 144, 200, 344, 576), (3, 6, 6, 8, 8, 11, 3), 45),
    "b7": ((64, 32, 48, 80, 160, 224, 384, 640), (4, 7, 7, 10, 10, 13, 4), 55),
    "lite0": (_B0_WIDTHS, (1, 2, 2, 3, 3, 4, 1), 16),
    "lite1": (_B0_WIDTHS, (1, 3, 3, 4, 4, 5, 1), 21),
    "lite2": ((32, 16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1), 21),
    "lite3": ((32, 24, 32, 48, 96, 136, 232, 384), (1, 3, 3, 5, 5, 6, 1), 24),
    "lite4": ((32, 24, 32, 56, 112, 160, 272, 448), (1, 4, 4, 6, 6, 8, 1), 30),
}


@pytest.mark.parametrize("scale", LAYOUTS)
def test_scales_have_the_published_widths_and_repeats(scale):
    widths, repeats, blocks = LAYOUTS[scale]
    stages = efficientnet.stages(scale)
    assert (efficientnet.stem_filters(scale), *(s.filters for s in stages)) == widths
    assert tuple(s.repeats for s in stages) == repeats
    assert sum(repeats) == blocks


@pytest.mark.parametrize("size", [(64, 64), (50, 77)])
def test_levels_equal_those_of_keras_applications(size):
    keras.utils.set_random_seed(0)
    theirs = keras.applications.EfficientNetB0(False, None, input_shape=(*size, 3))
    ends = ("block3b_add", "block5c_add", "block7a_project_bn")
    theirs = keras.Model(theirs.input, [theirs.get_layer(name).output for name in ends])
    ours = EfficientNet("b0")
    images = np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype("float32")
    # Keras scales to 0-1 and, without weights, subtracts 0 and divides by 1.
    ours(images)
    ours.set_weights([v for v in theirs.get_weights() if v.shape not in ((), (3,))])
    for level, expected in zip(ours(images / 255).values(), theirs(images), strict=True):
        np.testing.assert_allclose(level, expected, rtol=1e-3, atol=1e-4)


def test_levels_are_chosen_and_rounded_up():
    levels = EfficientNet("test", levels=(2, 5))(np.zeros((1, 65, 130, 3), "float32"))
    assert {name: tuple(x.shape[1:3]) for name, x in levels.items()} == {
        "P2": (17, 33),
        "P5": (3, 5),
    }


def test_drop_rates_rise_from_0_along_the_blocks():
    backbone = EfficientNet("b0", drop_connect=0.2)
    rates = [block.drop_rate for block in backbone.blocks]
    np.testing.assert_allclose(rates, 0.2 * np.arange(16) / 16)


def test_lite_has_no_squeeze_and_excite():
    assert {block.se_ratio for block in EfficientNet("lite0").blocks} == {0.0}


def test_unknown_scales_are_listed():
    with pytest.raises(ValueError, match="unknown EfficientNet 'b9'; use one of b0"):
        EfficientNet("b9")


@pytest.mark.parametrize("size", [(64, 64), (65, 97)])
def test_added_maps_are_summed_in_where_a_level_begins(size):
    keras.utils.set_random_seed(0)
    backbone = EfficientNet("test", levels=(1, 2, 3, 4, 5), drop_connect=0.0)
    images = np.random.default_rng(0).normal(size=(1, *size, 3)).astype("float32")
    plain = backbone(images)
    assert {k: x.shape[-1] for k, x in plain.items()} == backbone.channels
    random = np.random.default_rng(1)
    added = {
        k: random.normal(size=(*plain[k].shape[:3], c)).astype("float32")
        for k, c in backbone.joint_channels.items()
    }
    for level in range(1, 6):
        found = backbone(images, added={f"P{level}": added[f"P{level}"]})
        for other in range(1, 6):
            is_equal = np.allclose(found[f"P{other}"], plain[f"P{other}"])
            assert is_equal == (other < level), (level, other)
    # Written out for the first level: the stem, and behind it the blocks up to the next stride.
    x = backbone.act(backbone.stem_bn(backbone.stem_conv(images))) + added["P1"]
    for block in backbone.blocks[: [b.strides for b in backbone.blocks].index(2)]:
        x = block(x)
    np.testing.assert_allclose(backbone(images, added=added)["P1"], x, rtol=1e-5, atol=1e-6)


def test_each_scale_has_its_published_activation_unless_another_is_given():
    assert EfficientNet("b0").activation == EfficientNet("nano").activation == "swish"
    lite = EfficientNet("lite0")
    assert lite.activation == "relu6" == lite.blocks[0].activation
    assert EfficientNet("lite0", activation="hswish").activation == "hswish"
