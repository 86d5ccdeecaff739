import keras
import numpy as np
import pytest

from tfdet.heads.yolo import YoloHead
from tfdet.layers.merging import copy_merged
from tfdet.ops import anchor_grid
from tfdet.ops.anchor_grid import AnchorGrid

GRID = AnchorGrid((8, 16), (((8, 9), (20, 10)), ((30, 30), (60, 50))))


def maps():
    random = np.random.default_rng(0)
    return {
        "P3": random.normal(size=(2, 4, 6, 5)).astype(np.float32),
        "P4": random.normal(size=(2, 2, 3, 7)).astype(np.float32),
    }


def make(**options):
    return YoloHead(3, GRID.strides, GRID.anchors_per_cell, **options)


def test_rows_are_ordered_like_the_anchor_grid():
    head = make()
    raw = head(maps())
    rows = anchor_grid.rows(GRID, (32, 48))
    assert raw["class_logits"].shape == (2, len(rows.level), 3)
    predicted = [np.asarray(p(x)) for p, x in zip(head.predictors, maps().values(), strict=True)]
    for k in (0, 7, 30, len(rows.level) - 1):
        level, x, y = (int(values[k]) for values in (rows.level, rows.cell_x, rows.cell_y))
        shape = (rows.anchor_width[k], rows.anchor_height[k])
        anchor = GRID.anchors[level].index(shape)
        cell = predicted[level][:, y, x].reshape(2, 2, 8)[:, anchor]
        np.testing.assert_allclose(raw["box_codes"][:, k], cell[:, :4], atol=1e-6)
        np.testing.assert_allclose(raw["object_logits"][:, k], cell[:, 4], atol=1e-6)
        np.testing.assert_allclose(raw["class_logits"][:, k], cell[:, 5:], atol=1e-6)


@pytest.mark.parametrize("implicit", [True, False])
def test_the_merged_form_gives_the_same(implicit):
    head, merged = make(implicit=implicit), make(implicit=implicit, merged=True)
    head(maps()), merged(maps())
    for variable in head.weights:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    expected = head(maps())
    copy_merged(head, merged)
    for key, value in merged(maps()).items():
        np.testing.assert_allclose(value, expected[key], atol=1e-4)
    assert len(merged.weights) == 4


def test_biases_start_at_the_published_prior():
    head = YoloHead(80, (8, 16, 32))
    head({f"P{i}": keras.KerasTensor((1, 4, 4, 10_000)) for i in (3, 4, 5)})
    for predictor, side in zip(head.predictors, (80, 40, 20), strict=True):
        bias = np.asarray(predictor.conv.bias).reshape(3, 85)
        np.testing.assert_allclose(bias[:, :4], 0, atol=0.0101)
        np.testing.assert_allclose(bias[:, 4], np.log(8 / side**2), atol=0.0101)
        np.testing.assert_allclose(bias[:, 5:], np.log(0.6 / 79.01), atol=0.0101)
        assert bias[:, :4].std() > 0.003  # PyTorch's uniform start is kept below the prior


def test_the_configuration_makes_the_same_head():
    config = make(implicit=False, name="h").get_config()
    assert YoloHead.from_config(config).get_config() == config
