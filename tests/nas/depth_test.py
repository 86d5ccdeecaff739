"""Blocks that are added change nothing, and go again without a trace."""

import dataclasses

import numpy as np
import pytest

from tfdet.backbones.encoding import Place, encoding_of_widths
from tfdet.detectors.joint_detnas import FOUND
from tfdet.errors import UserError
from tfdet.nas.depth import (
    add_layer,
    block_importance,
    dirac,
    prune_layers,
    removable,
    remove_block,
)
from tfdet.nas.weights import rebuild, take_weights

BOTTLENECKS = encoding_of_widths(
    [[(6, 5, 8), (4, 6, 8)], [(6, 7, 12)] * 3, [(6, 6, 10)], [(5, 6, 10), (6, 5, 14)]], stem=6
)
BASIC = encoding_of_widths([[(6, 6)] * 2, [(8, 10)] * 2, [(7, 12)], [(9, 8)] * 2], stem=6)
GROUPED = encoding_of_widths(
    [[(8, 8, 8)], [(16, 16, 16)] * 2, [(12, 12, 16)], [(8, 8, 16)]], group_width=6, stem=6
)
DEFORMABLE = dataclasses.replace(
    BOTTLENECKS,
    stages=tuple(
        tuple(dataclasses.replace(b, deformable=True) for b in blocks)
        for blocks in BOTTLENECKS.stages
    ),
)


def same(weights, others):
    assert set(weights) == set(others)
    for name, value in weights.items():
        np.testing.assert_array_equal(others[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("encoding", "stages"),
    [(BOTTLENECKS, (1, 2, 3, 4)), (BASIC, (1, 4)), (GROUPED, (2, 3)), (DEFORMABLE, (4,))],
    ids=["bottleneck", "basic", "grouped", "deformable"],
)
def test_added_layers_change_no_bit(lively, maps, encoding, stages):
    model = lively(encoding)
    grown, weights = encoding, take_weights(model)
    for stage in stages:
        grown, weights = add_layer(grown, weights, stage)
    assert sum(grown.depths) == sum(encoding.depths) + len(stages)
    assert grown.out_widths == encoding.out_widths
    expected, found = maps(model), maps(rebuild(model, grown, weights))
    for level, value in expected.items():
        np.testing.assert_array_equal(found[level], value)


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_removing_an_added_layer_restores_the_parent(lively, stage):
    weights = take_weights(lively(BOTTLENECKS))
    grown, more = add_layer(BOTTLENECKS, weights, stage)
    assert grown != BOTTLENECKS
    again, less = remove_block(grown, more, Place(stage, BOTTLENECKS.depths[stage - 1]))
    assert again == BOTTLENECKS
    same(weights, less)


def test_the_least_layer_is_the_one_that_goes(lively):
    weights = take_weights(lively(BOTTLENECKS))
    for name in weights:
        if name.startswith("backbone/stage_2_block_1/") and name.endswith("kernel"):
            weights[name] = weights[name] * 0.01
    for by in ("sum", "mean"):
        pruned, left = prune_layers(BOTTLENECKS, weights, by=by)
        assert pruned.depths == (2, 2, 1, 2)
        np.testing.assert_array_equal(
            left["backbone/stage_2_block_1/conv2/kernel"],
            weights["backbone/stage_2_block_2/conv2/kernel"],
        )
    total = sum(v.size for v in weights.values()) - sum(v.size for v in left.values())
    gone = [v for k, v in weights.items() if k.startswith("backbone/stage_2_block_1/")]
    assert total == sum(v.size for v in gone)


def test_the_mean_does_not_favour_wide_blocks():
    narrow, wide = np.full((1, 1, 2, 2), 2.0), np.full((1, 1, 8, 8), 1.0)
    weights = {
        "backbone/stage_1_block_0/conv1/kernel": narrow,
        "backbone/stage_1_block_1/conv1/kernel": wide,
    }
    sums, means = (
        [block_importance(weights, Place(1, i), by) for i in (0, 1)] for by in ("sum", "mean")
    )
    assert sums == [8.0, 64.0] and means == [2.0, 1.0]


def test_only_identity_blocks_that_are_not_alone_can_go(lively):
    # The single block of stage 1 of the found ResNet-18 has no projection, and stays.
    assert removable(FOUND["r18"]) == [(2, 1), (3, 1), (4, 1)]
    assert removable(BASIC) == [(1, 0), (1, 1), (2, 1), (4, 1)]
    assert removable(BOTTLENECKS) == [(1, 1), (2, 1), (2, 2)]
    weights = take_weights(lively(BOTTLENECKS))
    with pytest.raises(UserError, match="stage 2, block 0 cannot be removed"):
        remove_block(BOTTLENECKS, weights, Place(2, 0))
    pruned, left = prune_layers(BOTTLENECKS, weights, count=3)
    assert pruned.depths == (1, 1, 1, 2)
    with pytest.raises(UserError, match="no block can be removed"):
        prune_layers(pruned, left)


def test_stages_that_are_none_are_refused():
    with pytest.raises(UserError, match="stage must be 1 to 4, got 5"):
        add_layer(BASIC, {}, 5)


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(6, 6, 1), (4, 8, 2), (8, 4, 2)])
def test_dirac_kernels_pass_channels_on_within_their_group(inputs, outputs, groups):
    kernel = dirac(3, inputs, outputs, groups)
    assert kernel.shape == (3, 3, inputs // groups, outputs)
    x = np.random.default_rng(0).normal(size=inputs)
    taps = kernel[1, 1].reshape(inputs // groups, groups, outputs // groups)
    y = np.einsum("gi,igo->go", x.reshape(groups, -1), taps)
    n = min(inputs, outputs) // groups
    np.testing.assert_array_equal(y[:, :n], x.reshape(groups, -1)[:, :n])
    assert kernel.sum() == n * groups
