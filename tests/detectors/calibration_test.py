import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tfdet import records
from tfdet.detectors.calibration import Calibration, share_at, threshold_of_share
from tfdet.errors import UserError

SCORES = np.random.default_rng(0).beta(2, 3, 500).astype(np.float32)
TABLE = Calibration.from_scores(SCORES, (100.0, 300.0), (10.0, 15.0))


def test_thresholds_are_percentiles_with_exact_ends():
    found = threshold_of_share(SCORES, np.array([0.0, 0.1, 0.5, 1.0]))
    np.testing.assert_allclose(found, [0, *np.percentile(SCORES, [10, 50]), 1], rtol=1e-6)
    assert share_at(SCORES, 0.0) == 0 and share_at(SCORES, 1.0) == 1
    assert share_at(np.ones(3), 1.0) == 1 and share_at(np.zeros(3), 0.0) == 0


def test_the_table_survives_json():
    data = json.loads(json.dumps(records.to_dict(TABLE)))
    assert records.from_dict(Calibration, data) == TABLE


@hypothesis.given(share=st.floats(0, 1))
def test_a_target_is_met_on_the_images_of_the_table(share):
    early, late = 100.0, 300.0
    targets = {"effort": share, "target_madds": early + share * (late - early)}
    targets["target_latency_ms"] = 10.0 + share * 5.0
    for name, value in targets.items():
        threshold = TABLE.threshold_for(**{name: value})
        assert share_at(SCORES, threshold) == pytest.approx(share, abs=0.011)


def test_an_effort_is_the_place_of_a_target_between_the_ends():
    assert TABLE.effort_for(target_madds=150.0) == 0.25
    assert TABLE.effort_for(target_latency_ms=12.0) == 0.4
    for effort in (0.0, 0.2, 0.7, 1.0):
        assert TABLE.effort_at(TABLE.threshold_for(effort=effort)) == pytest.approx(effort)


def test_the_old_name_of_effort_works_with_a_warning():
    with pytest.warns(DeprecationWarning, match="called `effort` now"):
        assert TABLE.threshold_for(share=0.25) == TABLE.threshold_for(effort=0.25)


def test_less_than_the_least_is_the_least():
    assert TABLE.threshold_for(target_madds=1.0) == 0.0
    assert TABLE.effort_for(target_latency_ms=1.0) == 0.0


def test_more_than_all_is_all():
    assert TABLE.threshold_for(target_madds=1e9) == 1.0
    assert TABLE.threshold_for(target_latency_ms=15.0) == 1.0
    assert TABLE.threshold_for(target_latency_ms=10.0) == 0.0


def test_times_can_be_replaced():
    other = TABLE.with_latency((1.0, 3.0))
    assert (other.latency_ms[0], other.latency_ms[-1]) == (1.0, 3.0)
    assert other.macs == TABLE.macs


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, "give exactly one of effort, target_madds, target_latency_ms; got 0"),
        ({"effort": 0.5, "target_madds": 200.0}, "got 2"),
        ({"effort": -0.1}, r"effort must be between 0 \(the least\) and 1 \(all\), got -0.1"),
        ({"target_latency_ms": float("nan")}, "target_latency_ms must be a number"),
    ],
)
def test_impossible_targets_are_named(target, message):
    with pytest.raises(UserError, match=message):
        TABLE.threshold_for(**target)


def test_paths_of_equal_time_cannot_be_told_apart():
    table = TABLE.with_latency((5.0, 4.0))
    with pytest.raises(UserError, match="measured no more expensive"):
        table.threshold_for(target_latency_ms=4.5)


def test_no_image_is_no_calibration():
    with pytest.raises(UserError, match="at least one image"):
        Calibration.from_scores(np.zeros(0), (1.0, 2.0), (1.0, 2.0))


def test_a_grids_table_goes_from_nothing_open_to_all_that_is():
    thresholds, shares = np.array([1.0, 0.6, 0.3, 0.1, 1e-4]), np.array([0, 0.2, 0.5, 0.45, 0.8])
    table = Calibration.from_shares(9, thresholds, shares, (100.0, 300.0), (10.0, 20.0))
    assert (table.thresholds[0], table.thresholds[-1]) == (1.0, 1e-4)
    assert np.all(np.diff(table.thresholds) <= 0)
    assert (table.macs[0], table.macs[-1]) == pytest.approx((100, 260))
    assert (table.latency_ms[0], table.latency_ms[-1]) == pytest.approx((10, 18))
    assert table.threshold_for(target_madds=140) == pytest.approx(0.6)
    assert table.threshold_for(target_latency_ms=12) == pytest.approx(0.6)
    assert table.threshold_for(target_madds=1e9) == table.threshold_for(effort=1.0) == 1e-4
    for effort in (0.0, 0.2, 0.7, 1.0):
        assert table.effort_at(table.threshold_for(effort=effort)) == pytest.approx(effort)
    assert table.threshold_for(target_madds=99.0) == table.threshold_for(effort=0.0) == 1.0
    assert records.from_dict(Calibration, json.loads(json.dumps(records.to_dict(table)))) == table


@pytest.mark.parametrize(("images", "words"), [(0, "at least one image"), (3, "nothing open")])
def test_a_grid_without_images_or_open_gates_has_no_table(images, words):
    with pytest.raises(UserError, match=words):
        Calibration.from_shares(images, np.array([1, 1e-4]), np.zeros(2), (1.0, 2.0), (1.0, 2.0))
