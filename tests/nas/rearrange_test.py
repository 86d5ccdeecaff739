"""Blocks move between stages; parameters and sizes of maps stay."""

import numpy as np
import pytest

from tfdet.backbones.encoding import encoding_of_widths
from tfdet.detectors.joint_detnas import FOUND
from tfdet.errors import UserError
from tfdet.nas.depth import dirac
from tfdet.nas.rearrange import rearrange, rearrangeable
from tfdet.nas.weights import rebuild, take_weights

BOTTLENECKS = encoding_of_widths(
    [[(6, 5, 8)] * 2, [(6, 7, 12)] * 3, [(6, 6, 10), (5, 4, 10)], [(5, 6, 10), (6, 5, 14)]], stem=6
)
BASIC = encoding_of_widths([[(6, 6)] * 2, [(8, 10)] * 2, [(7, 12)], [(9, 8)] * 2], stem=6)


def size(weights):
    return sum(value.size for value in weights.values())


def projection_size(width):
    return width * width + 4 * width


@pytest.mark.parametrize("encoding", [BOTTLENECKS, BASIC], ids=["bottleneck", "basic"])
@pytest.mark.parametrize("stage", [1, 2])
def test_a_move_costs_one_projection_and_keeps_strides_and_sizes(lively, maps, encoding, stage):
    model = lively(encoding)
    weights = take_weights(model)
    moved, values = rearrange(encoding, weights, stage)
    width = encoding.out_widths[stage - 1]
    assert size(values) == size(weights) + projection_size(width)
    assert [blocks[0].stride for blocks in moved.stages] == [1, 2, 2, 2]
    assert sum(moved.depths) == sum(encoding.depths) and moved.out_widths == encoding.out_widths
    first, second = moved.stages[stage][:2]
    assert first.projection and second.projection and second.stride == 1
    expected, found = maps(model), maps(rebuild(model, moved, values))
    assert {k: x.shape for k, x in found.items()} == {k: x.shape for k, x in expected.items()}


def test_all_other_weights_are_inherited(lively):
    weights = take_weights(lively(BOTTLENECKS))
    _, values = rearrange(BOTTLENECKS, weights, 2)
    for part in ("conv1", "conv2", "conv3"):
        for old, new in (((2, 2), (3, 0)), ((3, 0), (3, 1)), ((3, 1), (3, 2)), ((2, 1), (2, 1))):
            names = (f"backbone/stage_{s}_block_{i}/{part}/kernel" for s, i in (old, new))
            before, after = next(names), next(names)
            np.testing.assert_array_equal(values[after], weights[before])
    prefix = "backbone/stage_3_block_0/projection"
    np.testing.assert_array_equal(values[f"{prefix}/kernel"], dirac(1, 12, 12))
    assert set(values[f"{prefix}_bn/gamma"]) == {1.0}
    assert np.array_equal(
        values["backbone/stage_3_block_1/projection/kernel"],
        weights["backbone/stage_3_block_0/projection/kernel"],
    )
    assert not any(name.startswith("backbone/stage_2_block_2") for name in values)
    for name in weights:
        if not name.startswith(("backbone/stage_2", "backbone/stage_3")):
            assert values[name] is weights[name]


def test_the_new_shortcut_is_plain_subsampling(lively):
    model = lively(BOTTLENECKS)
    moved, values = rearrange(BOTTLENECKS, take_weights(model), 2)
    student = rebuild(model, moved, values)
    block = student.backbone.stages[2][0]
    x = np.random.default_rng(0).uniform(size=(1, 8, 10, 12)).astype(np.float32)
    shortcut = block.projection_bn(block.projection(x), training=False)
    np.testing.assert_allclose(shortcut, x[:, ::2, ::2], rtol=1e-5)


def test_a_second_move_hands_the_projection_on_as_in_the_found_r101(lively):
    weights = take_weights(lively(BOTTLENECKS))
    once, values = rearrange(BOTTLENECKS, weights, 2)
    name = "backbone/stage_3_block_0/projection/kernel"
    values[name] = values[name] * 3
    twice, more = rearrange(once, values, 2)
    assert [(b.stride, b.projection) for b in twice.stages[2]] == [
        *((2, True), (1, False)),
        *((1, True), (1, False)),
    ]
    assert [b.projection for b in twice.stages[2][:3]] == [
        b.projection for b in FOUND["r101"].stages[3][:3]
    ]
    assert size(more) == size(values)
    np.testing.assert_array_equal(more[name], values[name])


@pytest.mark.parametrize("times", [1, 2])
def test_moving_back_restores_the_parent(lively, times):
    weights = take_weights(lively(BOTTLENECKS))
    encoding, values = BOTTLENECKS, weights
    for _ in range(times):
        encoding, values = rearrange(encoding, values, 2)
    for _ in range(times):
        encoding, values = rearrange(encoding, values, 2, backward=True)
    assert encoding == BOTTLENECKS and set(values) == set(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(values[name], value)


def test_what_reads_a_map_of_another_width_starts_anew(lively, maps):
    model = lively(BOTTLENECKS)
    weights = take_weights(model)
    moved, values = rearrange(BOTTLENECKS, weights, 2, backward=True, seed=3)
    assert moved.out_widths == (8, 10, 10, 14) and moved.depths == (2, 4, 1, 2)
    assert moved.stages[2][0].projection and moved.stages[1][-1].projection
    name = "neck/lateral_p3/kernel"
    assert values[name].shape == (1, 1, 10, 10)
    assert 0 < np.abs(values[name]).max() <= np.sqrt(3 / 10)
    again = rearrange(BOTTLENECKS, weights, 2, backward=True, seed=3)[1][name]
    np.testing.assert_array_equal(values[name], again)
    expected, found = maps(model), maps(rebuild(model, moved, values))
    assert {k: x.shape for k, x in found.items()} == {k: x.shape for k, x in expected.items()}


def test_no_stage_is_emptied():
    assert rearrangeable(BASIC) == [1, 2] and rearrangeable(BASIC, backward=True) == [1, 3]
    for stage, backward in ((3, False), (4, False), (0, False), (2, True)):
        with pytest.raises(UserError, match=f"stage {stage} cannot (take|give) a block"):
            rearrange(BASIC, {}, stage, backward)
