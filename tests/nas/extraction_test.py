import dataclasses

import numpy as np
import pytest

from tests.nas import teacher_cases
from tfdet.nas import elastic, extraction
from tfdet.nas.weights import take_weights


def test_sorting_changes_nothing_but_the_order(lively, maps):
    model = lively(dataclasses.replace(teacher_cases.FULL, epsilon=0.0), exact=True)
    before, wanted = take_weights(model), maps(model)
    elastic.sort_channels(model, "weights")
    for name, value in maps(model).items():
        np.testing.assert_array_equal(wanted[name], value)
    after = take_weights(model)
    assert any(np.any(after[name] != value) for name, value in before.items())


@pytest.mark.parametrize("by", ["gamma", "weights"])
def test_the_most_important_channels_come_first(by):
    model = teacher_cases.super_network()
    rng = np.random.default_rng(0)
    weights = {k: rng.normal(size=v.shape).astype("f") for k, v in take_weights(model).items()}
    found = extraction.sort_channels(teacher_cases.FULL, weights, by)
    block = "backbone/stage_2_block_1/"
    scores = {
        "gamma": np.abs(found[f"{block}bn1/gamma"]),
        "weights": np.abs(found[f"{block}conv2/kernel"]).sum(axis=(0, 1, 3)),
    }
    assert np.all(np.diff(scores[by]) <= 0)
    old, new = (w[f"{block}conv1/kernel"] for w in (weights, found))
    order = np.argsort(-np.abs(weights[f"{block}bn1/gamma"]), kind="stable")
    if by == "gamma":
        inputs = np.argsort(
            -np.abs(weights["backbone/stage_2_block_0/projection_bn/gamma"]), kind="stable"
        )
        np.testing.assert_array_equal(new, old[:, :, inputs][..., order])
