"""The trade-off of a dynamic detector that is no cascade; cascades: cascade_tradeoff_test.py."""

import numpy as np
import pytest

import tfdet
from tests.detectors.brightness import NAME
from tfdet.errors import UserError
from tfdet.evaluation import coco, tradeoff


def test_a_trade_off_needs_a_calibration_and_leaves_the_threshold():
    names = ("circle", "square", "triangle", "star", "cross")
    model = tfdet.create(NAME, class_names=names)
    data = tfdet.open_dataset("shapes:val:4")
    with pytest.raises(UserError, match="tfdet-eval --calibrate"):
        tradeoff.trade_off(model, data)
    shades = np.linspace(0, 255, 8)[:, None, None, None] + np.zeros((64, 64, 3))
    model.calibrate([shades.astype(np.uint8)])
    model.threshold = 0.7
    with pytest.raises(UserError, match="random_draws is for cascades"):
        tradeoff.trade_off(model, data, random_draws=1)
    result = tradeoff.trade_off(model, data, batch_size=4)
    assert model.threshold == pytest.approx(0.7)
    macs = [row["macs"] for row in result["curve"]]
    assert (macs[0], macs[-1]) == pytest.approx(model.cost_ends) and macs == sorted(macs)
    assert all(name in result["curve"][0] for name in coco.METRICS)
