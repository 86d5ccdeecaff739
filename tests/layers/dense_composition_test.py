import keras
import numpy as np
import pytest

from tfdet.layers.dense_composition import DenseComposition

# Channels of the first backbone's maps and of the second's joints, and the published parameters.
PUBLISHED = {
    "yolov7": (
        {"P1": 64, "P2": 256, "P3": 512, "P4": 1024, "P5": 1024},
        {"P1": 64, "P2": 128, "P3": 256, "P4": 512, "P5": 1024},
        3_300_928,
    ),
    "yolov7-x": (
        {"P1": 80, "P2": 320, "P3": 640, "P4": 1280, "P5": 1280},
        {"P1": 80, "P2": 160, "P3": 320, "P4": 640, "P5": 1280},
        5_156_560,
    ),
    "yolov7-w6": (
        {"P1": 64, "P2": 128, "P3": 256, "P4": 512, "P5": 768, "P6": 1024},
        {"P2": 128, "P3": 256, "P4": 512, "P5": 768, "P6": 1024},
        4_609_664,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name):
    taps, joints, parameters = PUBLISHED[name]
    layer = DenseComposition(joints)
    layer.build({level: (1, 128 >> i, 128 >> i, c) for i, (level, c) in enumerate(taps.items())})
    assert layer.count_params() == parameters


def _maps(size, channels):
    random = np.random.default_rng(0)
    maps = {}
    for i, c in enumerate(channels, 1):
        shape = [-(-side // 2**i) for side in size]
        maps[f"P{i}"] = random.normal(size=(2, *shape, c)).astype("float32")
    return maps


@pytest.mark.parametrize("size", [(64, 32), (66, 35), (9, 70)])
def test_each_level_gets_its_own_and_all_coarser_maps(size):
    joints = {"P1": 3, "P2": 5, "P3": 2}
    layer = DenseComposition(joints)
    maps = _maps(size, (4, 6, 8))
    found = layer(maps)
    assert {k: x.shape for k, x in found.items()} == {
        k: (*maps[k].shape[:3], c) for k, c in joints.items()
    }
    for level in (1, 2, 3):
        expected = 0.0
        for source in range(level, 4):
            kernel, bias = (np.asarray(v) for v in layer.convs[f"P{source}"].weights)
            start = sum(joints[f"P{i}"] for i in range(1, level))
            columns = slice(start, start + joints[f"P{level}"])
            part = maps[f"P{source}"] @ kernel[0, 0, :, columns] + bias[columns]
            for target in range(source - 1, level - 1, -1):  # one halving at a time, rounded up
                height, width = maps[f"P{target}"].shape[1:3]
                rows = np.arange(height) * part.shape[1] // height
                part = part[:, rows][:, :, np.arange(width) * part.shape[2] // width]
            expected = expected + part
        np.testing.assert_allclose(found[f"P{level}"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("own_level", ["identity", "none"])
def test_published_two_stage_forms_begin_with_little(own_level):
    maps = _maps((64, 64), (4, 6, 8))
    scaled = own_level == "none"
    layer = DenseComposition(
        {"P1": 4, "P2": 6, "P3": 8}, own_level, scaled=scaled, starts_at_zero=True
    )
    found = layer(maps)
    names = {"P1", "P2"} if scaled else {"P1", "P2", "P3"}
    assert set(found) == names and set(layer.convs) == {"P2", "P3"}
    for name in names:
        np.testing.assert_allclose(found[name], 0 if scaled else maps[name], atol=1e-6)
    assert layer.convs["P3"].filters == 4 + 6
    kinds = {v.path.rpartition("/")[2] for v in layer.trainable_variables}
    assert kinds == {"kernel", *(("gamma", "beta") if scaled else ("bias",))}
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()


def test_a_scaled_form_is_a_factor_and_a_shift_per_channel():
    maps = _maps((32, 32), (3, 5))
    layer = DenseComposition({"P1": 4}, own_level="none", scaled=True)
    layer(maps)
    layer.norms["P2"].gamma.assign([1.0, 2.0, 3.0, 4.0])
    layer.norms["P2"].beta.assign([0.0, 0.0, 0.0, 5.0])
    part = maps["P2"] @ np.asarray(layer.convs["P2"].kernel)[0, 0] / np.sqrt(1 + 1e-5)
    part = part * [1, 2, 3, 4] + [0, 0, 0, 5]
    expected = part.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(layer(maps)["P1"], expected, rtol=1e-4, atol=1e-5)


def test_levels_without_a_partner_are_left_out():
    layer = DenseComposition({"P2": 4, "P6": 4})
    found = layer(_maps((32, 32), (3, 3, 3)))
    assert list(found) == ["P2"]
    assert set(layer.convs) == {"P2", "P3"}


def test_it_comes_back_from_its_configuration():
    layer = DenseComposition({"P1": 3, "P2": 5})
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.channels == {"P1": 3, "P2": 5}
