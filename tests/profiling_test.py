"""Counts of every published EfficientDet, and the counting itself on layers done by hand."""

import keras
import numpy as np
import pytest

from tfdet import profiling, registry
from tfdet.errors import UserError

# Trainable numbers, all numbers, and variables (all, trainable) of the official networks with 90
# classes; convolution multiply-adds in G of the whole, the backbone, the feature network's cells,
# the class head and the box head.
PUBLISHED = {
    "d0": (3_880_067, 3_927_203, 709, 493, 2.492, 1.901, 0.131, 0.362, 0.092),
    "d1": (6_625_898, 6_697_354, 912, 640, 6.003, 4.468, 0.439, 0.833, 0.252),
    "d2": (8_097_039, 8_178_815, 987, 699, 10.832, 7.430, 1.194, 1.625, 0.561),
    "d3": (12_032_296, 12_146_600, 1165, 823, 24.569, 14.888, 3.708, 3.997, 1.928),
    "d4": (20_723_675, 20_890_987, 1354, 960, 54.584, 30.503, 10.642, 8.560, 4.776),
    "d5": (33_653_315, 33_880_707, 1482, 1048, 134.134, 75.039, 27.039, 19.710, 12.109),
    "d6": (51_871_782, 52_183_766, 1565, 1059, 224.121, 107.284, 53.709, 36.455, 26.320),
    "d7": (51_871_782, 52_183_766, 1565, 1059, 322.732, 154.486, 77.341, 52.495, 37.900),
    "d7x": (77_147_166, 77_564_894, 1902, 1286, 407.628, 238.646, 77.954, 52.533, 37.928),
    "lite0": (3_243_470, 3_290_606, 588, 372, 0.974, 0.743, 0.051, 0.142, 0.036),
    "lite1": (4_248_318, 4_311_390, 719, 457, 1.967, 1.414, 0.158, 0.300, 0.091),
    "lite2": (5_252_334, 5_324_894, 775, 497, 3.371, 2.213, 0.406, 0.553, 0.191),
    "lite3": (8_350_862, 8_455_054, 922, 590, 7.480, 4.319, 1.211, 1.305, 0.629),
    "lite3x": (9_280_862, 9_392_574, 922, 590, 13.978, 6.749, 2.875, 2.822, 1.502),
    "lite4": (15_130_894, 15_286_398, 1068, 684, 20.168, 10.762, 4.157, 3.344, 1.866),
}
PART_PARAMETERS = {
    "d0": (3_595_388, 20_672, 175_609, 69_354, 19_044),
    "d1": (6_101_024, 28_424, 362_548, 101_394, 32_508),
    "d2": (7_202_562, 39_760, 668_399, 136_890, 49_428),
    "d3": (10_103_336, 61_920, 1_497_554, 247_050, 122_436),
    "d4": (16_742_216, 101_024, 3_248_805, 402_890, 228_740),
    "d5": (27_288_112, 148_320, 5_257_573, 591_498, 367_812),
    "d6": (39_403_992, 222_336, 10_361_472, 1_090_986, 792_996),
    "d7": (39_403_992, 222_336, 10_361_472, 1_090_986, 792_996),
    "d7x": (62_143_440, 246_912, 12_865_152, 1_094_826, 796_836),
    "lite0": (2_958_848, 20_672, 175_552, 69_354, 19_044),
    "lite1": (3_723_520, 28_424, 362_472, 101_394, 32_508),
    "lite2": (4_357_952, 39_760, 668_304, 136_890, 49_428),
    "lite3": (6_422_016, 61_920, 1_497_440, 247_050, 122_436),
    "lite3x": (6_422_016, 77_400, 2_255_800, 340_610, 185_036),
    "lite4": (11_149_568, 101_024, 3_248_672, 402_890, 228_740),
}


def test_the_table_has_every_published_model():
    own = {"nano"}
    registered = {
        name.removeprefix("efficientdet-")
        for name in registry.list_models()
        if name.startswith("efficientdet-")
    }
    assert registered - own == set(PUBLISHED) == set(PART_PARAMETERS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name):
    trainable, total, _, _, *gmacs = PUBLISHED[name]
    profile = profiling.profile(f"efficientdet-{name}")
    assert (profile.parameters, profile.parameters_total) == (trainable, total)
    assert tuple(part.parameters for part in profile.parts.values()) == PART_PARAMETERS[name]
    parts = [profile.parts[key] for key in ("backbone", "fpn_cells", "class_net", "box_net")]
    counted = [round(part.macs / 1e9, 3) for part in (profile, *parts)]
    assert counted == gmacs


@pytest.mark.parametrize("name", ["d0", "lite0"])
def test_variables_are_as_many_as_in_the_published_checkpoints(name):
    model = registry.create(f"efficientdet-{name}")
    assert (len(model.weights), len(model.trainable_weights)) == PUBLISHED[name][2:4]


def test_counting_by_name_equals_counting_a_model_and_leaves_it_alone():
    model = registry.create("efficientdet-test")
    before = model.count_params()
    assert profiling.profile(model) == profiling.profile("efficientdet-test")
    assert profiling.profile(model) == profiling.profile(model)
    assert model.count_params() == before
    assert not any("call" in vars(layer) for layer in model._flatten_layers())


def test_parts_add_up_to_the_whole():
    profile = profiling.profile("efficientdet-test", (96, 64))
    for field in profiling.Part._fields:
        parts = sum(getattr(part, field) for part in profile.parts.values())
        assert parts == getattr(profile, field)
    assert profile.image_size == (96, 64)


def test_classes_change_only_the_class_predictor():
    few = registry.config("efficientdet-d0", num_classes=3)
    changed = profiling.profile_config("efficientdet-d0", few)
    assert PUBLISHED["d0"][0] - changed.parameters == 64 * 9 * 87 + 9 * 87


class _Net(keras.Model):
    """One layer of each counted kind, with the work written beside it."""

    def __init__(self):
        super().__init__(name="net")
        self.paths = {}
        layers = keras.layers
        self.stack = [
            (layers.Conv2D(4, 3, strides=2, groups=1, use_bias=False), 7 * 7 * 4 * 3 * 9, 0),
            (layers.Conv2D(8, 1, groups=2), 49 * 8 * 2, 49 * 8),
            (layers.DepthwiseConv2D(3, padding="same", use_bias=False), 49 * 8 * 9, 0),
            (layers.SeparableConv2D(6, 3, padding="same"), 49 * 8 * 9 + 49 * 8 * 6, 49 * 6),
            (layers.BatchNormalization(), 0, 2 * 49 * 6),
            (layers.ReLU(), 0, 49 * 6),
            (layers.MaxPooling2D(3, 2, "same"), 0, 49 * 6),
            (layers.Flatten(), 0, 0),
            (layers.Dense(5), 16 * 6 * 5, 0),
        ]
        self.all_layers = [layer for layer, _, _ in self.stack]

    @property
    def parts(self):
        return {layer.name: [layer] for layer in self.all_layers}

    def call(self, x):
        for layer in self.all_layers:
            x = layer(x)
        return x


def test_each_kind_of_layer_counts_what_it_does():
    model = _Net()
    model(np.zeros((1, 15, 15, 3)))
    parts = list(profiling.profile(model, (15, 15)).parts.values())
    for part, (layer, macs, other) in zip(parts, model.stack, strict=True):
        assert (part.macs, part.mmdet_flops) == (macs, macs + other), layer.name


def test_a_layer_used_twice_counts_twice():
    once, twice = (_repeated(times) for times in (1, 2))
    assert twice.macs == 2 * once.macs > 0
    assert twice.parameters == once.parameters


def _repeated(times):
    class Net(keras.Model):
        def __init__(self):
            super().__init__(name="net")
            self.paths = {}
            self.conv = keras.layers.Conv2D(3, 3, padding="same")
            self.parts = {"conv": [self.conv]}

        def call(self, x):
            for _ in range(times):
                x = self.conv(x)
            return x

    model = Net()
    model(np.zeros((1, 8, 8, 3)))
    return profiling.profile(model, (8, 8))


def test_the_text_has_a_row_per_part():
    text = profiling.profile("efficientdet-test").to_text()
    for name in ("backbone", "resample", "fpn_cells", "class_net", "box_net", "total"):
        assert f"\n{name} " in text


def test_other_models_are_refused():
    with pytest.raises(UserError, match="expected a detector or the name of one, got list"):
        profiling.profile([])
