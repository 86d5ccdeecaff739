import numpy as np
import pytest

from tfdet.necks.fpn import FPN


def features(height=64, width=96):
    rng = np.random.default_rng(0)
    maps = {}
    for level in (3, 4, 5):
        size = -(-height // 2**level), -(-width // 2**level)
        maps[f"P{level}"] = rng.normal(size=(2, *size, 4 * level)).astype(np.float32)
    return maps


@pytest.mark.parametrize("size", [(64, 96), (50, 83)])
def test_all_levels_have_one_width_and_halve_rounded_up(size):
    maps = FPN(8)(features(*size))
    assert list(maps) == ["P3", "P4", "P5", "P6", "P7"]
    for i, x in enumerate(maps.values()):
        assert x.shape == (2, -(-size[0] // 2 ** (i + 3)), -(-size[1] // 2 ** (i + 3)), 8)


def test_coarse_levels_come_from_where_they_should():
    maps = features()
    for source, width in (("pyramid", 8), ("backbone", 20)):
        neck = FPN(8, coarse_from=source)
        neck(maps)
        assert neck.coarse["P6"].kernel.shape == (3, 3, width, 8)
        assert neck.coarse["P7"].kernel.shape == (3, 3, 8, 8)


def test_pooled_levels_have_no_weights_and_leave_cells_out():
    neck, features_ = FPN(8, 6, "pool"), features(50, 83)
    maps = neck(features_)
    assert list(maps) == ["P3", "P4", "P5", "P6"] and len(neck.weights) == 12
    np.testing.assert_array_equal(maps["P6"], maps["P5"][:, ::2, ::2])


def test_a_change_of_the_coarsest_map_reaches_every_level():
    neck, maps = FPN(8), features()
    before = neck(maps)
    maps["P5"] = maps["P5"] + 1
    after = neck(maps)
    assert all(np.abs(after[name] - before[name]).max() > 0 for name in before)


def test_the_configuration_comes_back():
    neck = FPN(8, 6, "backbone", name="neck")
    assert FPN.from_config(neck.get_config()).get_config() == neck.get_config()


def test_lighter_kinds_have_fewer_layers():
    maps = features()
    kinds = {kind: FPN(8, kind=kind) for kind in ("fpn", "fpnlite", "projection")}
    for neck in kinds.values():
        assert list(neck(maps)) == ["P3", "P4", "P5", "P6", "P7"]
    full, lite, flat = (neck.count_params() for neck in kinds.values())
    assert full - flat == 3 * (9 * 8 * 8 + 8)
    assert lite - flat == 3 * (9 * 8 + 8 * 8 + 8)


def test_a_projection_keeps_the_levels_apart():
    neck, maps = FPN(8, kind="projection", lateral_kernel=3), features()
    before = neck(maps)
    maps["P5"] = maps["P5"] + 1
    after = neck(maps)
    changed = [name for name in before if np.abs(after[name] - before[name]).max() > 0]
    assert changed == ["P5", "P6", "P7"]
    assert neck.lateral["P3"].kernel.shape[:2] == (3, 3)


def test_added_levels_may_have_another_kernel():
    for size in (1, 3):
        neck = FPN(8, kind="projection", coarse_kernel=size)
        shapes = [tuple(x.shape) for x in neck(features()).values()]
        assert {conv.kernel.shape[:2] for conv in neck.coarse.values()} == {(size, size)}
        assert shapes == [tuple(x.shape) for x in FPN(8)(features()).values()]


def test_the_relu_between_coarse_levels_can_be_left_out():
    necks = [FPN(8, coarse_relu=flag) for flag in (True, False)]
    maps = [neck(features()) for neck in necks]
    for neck, found in zip(necks, maps, strict=True):
        x = np.asarray(found["P6"])
        expected = neck.coarse["P7"](np.maximum(x, 0) if neck.coarse_relu else x)
        np.testing.assert_allclose(found["P7"], expected, atol=1e-5)
        assert x.min() < 0
    assert FPN.from_config(necks[1].get_config()).coarse_relu is False
