"""Channels go where they matter least, and with them everything that they are part of."""

import dataclasses

import numpy as np
import pytest

from tfdet.backbones.encoding import Block, Encoding, Place, encoding_of_widths
from tfdet.errors import UserError
from tfdet.nas.channel_pruning import (
    Removal,
    importance,
    prune_channels,
    removal_order,
    remove_channels,
    spaces,
)
from tfdet.nas.weights import (
    LATERALS,
    block_prefix,
    model_readers,
    put_weights,
    rebuild,
    take_weights,
)


def exact_encoding(stages, **options):
    """Without epsilon: 1 / sqrt(variance) is then 1."""
    return dataclasses.replace(encoding_of_widths(stages, **options), epsilon=0.0)


BOTTLENECKS = exact_encoding(
    [[(6, 5, 8), (4, 6, 8)], [(6, 7, 12)] * 2, [(6, 6, 10)], [(5, 6, 10), (6, 5, 14)]], stem=6
)
BASIC = exact_encoding([[(6, 6)] * 2, [(8, 10)] * 2, [(7, 12)], [(9, 8)] * 2], stem=6)
# Group widths 2, 4, 4, 4, 4 and 8.
GROUPED = exact_encoding(
    [[(8, 8, 8)], [(16, 16, 16)] * 2, [(12, 12, 16)], [(12, 12, 16), (24, 24, 32)]],
    group_width=6,
    stem=6,
)
DEFORMABLE = dataclasses.replace(
    BOTTLENECKS,
    stages=(
        *BOTTLENECKS.stages[:3],
        tuple(dataclasses.replace(b, deformable=True) for b in BOTTLENECKS.stages[3]),
    ),
)


def widths(encoding):
    return [space.width for space in spaces(encoding)]


def silence(encoding, weights, space, units):
    """`weights` with gamma and beta 0 wherever these channels leave a batch norm."""
    channels = [u * space.unit + i for u in units for i in range(space.unit)]
    prefix = block_prefix(space.place)
    norms = [f"{prefix}bn{space.conv}"]
    if space.unit > 1:
        norms = [f"{prefix}bn1", f"{prefix}bn2"]
    if space.conv == 0:
        blocks = encoding.stages[space.place.stage - 1]
        norms = [f"{prefix}projection_bn"]
        for i in range(space.place.index, len(blocks)):
            if i > space.place.index and blocks[i].projection:
                break
            last = f"bn{len(blocks[i].widths)}"
            norms.append(block_prefix((space.place.stage, i)) + last)
    weights = {name: value.copy() for name, value in weights.items()}
    for name in norms:
        weights[f"{name}/gamma"][channels] = 0
        weights[f"{name}/beta"][channels] = 0
    return weights


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        (BOTTLENECKS, "faster-rcnn-test"),
        (BASIC, "retinanet-test"),
        (GROUPED, "fcos-test"),
        (DEFORMABLE, "retinanet-test"),
    ],
    ids=["bottleneck", "basic", "grouped", "deformable"],
)
def test_removing_channels_that_are_zero_changes_no_bit(lively, maps, encoding, name):
    model = lively(encoding, name, exact=encoding is not DEFORMABLE)
    weights = take_weights(model)
    removals = []
    for space in spaces(encoding):
        units = [0, 2] if space.width // space.unit > 3 else [1]
        weights = silence(encoding, weights, space, units)
        removals += [Removal(space, unit) for unit in units]
    put_weights(model, weights)
    parent = maps(model)
    changed, left = remove_channels(encoding, weights, removals, model_readers(model))
    child = maps(rebuild(model, changed, left))
    gone = {
        space: space.width - width
        for space, width in zip(spaces(encoding), widths(changed), strict=True)
    }
    assert gone == {space: space.unit * sum(r.space == space for r in removals) for space in gone}
    for level, expected in parent.items():
        assert expected.any()
        if encoding is DEFORMABLE:  # samples between cells are no whole numbers
            np.testing.assert_allclose(child[level], expected, rtol=1e-4, atol=1e-4)
        else:
            np.testing.assert_array_equal(child[level], expected)


def test_real_numbers_differ_by_rounding_alone(lively, maps):
    encoding = encoding_of_widths([[(16, 16, 32)] * 2, *([[(12, 12, 24)] * 2] * 3)], stem=8)
    model = lively(encoding)
    weights = take_weights(model)
    removals = [Removal(space, 3) for space in spaces(encoding)]
    for space, unit in removals:
        weights = silence(encoding, weights, space, [unit])
    put_weights(model, weights)
    parent = maps(model)
    child = maps(rebuild(model, *remove_channels(encoding, weights, removals)))
    for level, expected in parent.items():
        np.testing.assert_allclose(child[level], expected, rtol=1e-3, atol=1e-4)


def test_inner_channels_are_those_of_their_block_and_outputs_those_of_linked_blocks():
    assert [(str(s.place), s.conv, s.width) for s in spaces(BOTTLENECKS)[:7]] == [
        ("stage 1, block 0", 0, 8),
        ("stage 1, block 0", 1, 6),
        ("stage 1, block 0", 2, 5),
        ("stage 1, block 1", 1, 4),
        ("stage 1, block 1", 2, 6),
        ("stage 2, block 0", 0, 12),
        ("stage 2, block 0", 1, 6),
    ]
    # Stage 1 of a ResNet-18 shares its channels with the stem, which has no say.
    assert [s.place.stage for s in spaces(BASIC) if s.conv == 0] == [2, 3, 4]
    # A ResNeXt's outputs are left alone.
    assert all(s.conv == 1 and s.unit > 1 for s in spaces(GROUPED))
    # Two projections in the last stage are two widths.
    assert [s.place for s in spaces(BOTTLENECKS) if s.conv == 0][-2:] == [(4, 0), (4, 1)]


def test_the_least_scales_of_all_layers_go_first():
    model_weights = scales_alone(BOTTLENECKS)
    order = removal_order(BOTTLENECKS, model_weights, floor=1)
    scores = [importance(space, model_weights)[unit] for space, unit in order]
    assert scores == sorted(scores)
    count = sum(space.width for space in spaces(BOTTLENECKS))
    assert len(set(order)) == len(order) == count - len(spaces(BOTTLENECKS))


def scales_alone(encoding, seed=0):
    """Random batch norm scales of the right sizes; no other weights."""
    random, made = np.random.default_rng(seed), {}
    for place, block in encoding.blocks():
        prefix = block_prefix(place)
        norms = {f"bn{i}": width for i, width in enumerate(block.widths, start=1)}
        if block.projection:
            norms["projection_bn"] = block.out_width
        for name, width in norms.items():
            made[f"{prefix}{name}/gamma"] = random.normal(size=width).astype(np.float32)
    return made


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_is_of_all_channels_and_no_layer_falls_below_the_floor(share):
    weights = scales_alone(BOTTLENECKS)
    changed, _ = prune_channels(BOTTLENECKS, weights, share, floor=4)
    before, after = (sum(s.width for s in spaces(e)) for e in (BOTTLENECKS, changed))
    possible = len(removal_order(BOTTLENECKS, weights, 4))
    assert before - after == min(max(1, int(share * before)), possible)
    assert min(min(block.widths) for _, block in changed.blocks()) >= 4
    assert (changed.depths, changed.stem) == (BOTTLENECKS.depths, BOTTLENECKS.stem)


def test_what_survives_has_the_greatest_scales_of_its_layer_and_keeps_its_order():
    weights = scales_alone(BOTTLENECKS)
    _, left = prune_channels(BOTTLENECKS, weights, 0.3, floor=1)
    for space in spaces(BOTTLENECKS):
        norm = f"bn{space.conv}" if space.conv else "projection_bn"
        name = f"{block_prefix(space.place)}{norm}/gamma"
        kept = set(np.abs(left[name]))
        assert kept == set(sorted(np.abs(weights[name]))[-len(kept) :])
        assert [x for x in weights[name] if x in left[name]] == list(left[name])


def test_the_projection_alone_decides_about_outputs():
    weights = scales_alone(BOTTLENECKS)
    for name in weights:
        if "stage_2" in name:
            weights[name][:] = 9
    weights["backbone/stage_2_block_0/projection_bn/gamma"][[2, 7]] = 0.001
    weights["backbone/stage_2_block_1/bn3/gamma"][5] = 0.0
    output = next(s for s in spaces(BOTTLENECKS) if s.place == (2, 0) and s.conv == 0)
    order = removal_order(BOTTLENECKS, weights, floor=10)
    assert {unit for space, unit in order if space == output} == {2, 7}


def test_whole_groups_go_and_their_width_stays():
    weights = scales_alone(GROUPED)
    changed, _ = prune_channels(GROUPED, weights, 0.4, floor=1)
    for (_, old), (_, new) in zip(GROUPED.blocks(), changed.blocks(), strict=True):
        assert new.widths[0] == new.widths[1] and new.out_width == old.out_width
        assert new.group_width == old.group_width and new.groups >= 2
    assert changed != GROUPED
    space = spaces(GROUPED)[0]
    scales = [np.abs(weights[f"backbone/stage_1_block_0/bn{i}/gamma"]) for i in (1, 2)]
    expected = np.mean(scales, axis=0).reshape(-1, space.unit).mean(axis=1)
    np.testing.assert_allclose(importance(space, weights), expected, rtol=1e-6)


def test_nothing_is_changed_in_place_and_the_same_comes_twice(lively):
    weights = take_weights(lively(BOTTLENECKS))
    before = {name: value.copy() for name, value in weights.items()}
    children = [prune_channels(BOTTLENECKS, weights, 0.2, floor=2) for _ in range(2)]
    assert children[0][0] == children[1][0]
    for name, value in before.items():
        np.testing.assert_array_equal(weights[name], value)
    for name, value in children[0][1].items():
        np.testing.assert_array_equal(children[1][1][name], value)


def test_only_what_reads_the_map_itself_is_cut():
    """RetinaNet's P6 reads the backbone, FCOS's the pyramid, though both are as wide here."""
    stages = [*BOTTLENECKS.stages[:3], (Block((4, 4, 12), 2, True),)]
    encoding = Encoding(tuple(stages), stem=6)
    space = next(s for s in spaces(encoding) if s.place == (4, 0) and s.conv == 0)
    kernel = np.zeros((3, 3, 12, 12), np.float32)
    weights = scales_alone(encoding) | {"neck/coarse_p6/kernel": kernel}
    for readers, width in ((LATERALS, 12), ({4: ("neck/coarse_p6/kernel",)}, 11)):
        _, left = remove_channels(encoding, weights, [Removal(space, 0)], readers)
        assert left["neck/coarse_p6/kernel"].shape[2] == width


def test_wishes_that_cannot_be_met_are_refused():
    weights = scales_alone(BOTTLENECKS)
    with pytest.raises(UserError, match=r"each convolution is at its floor of 16"):
        prune_channels(BOTTLENECKS, weights, 0.1, floor=16)
    with pytest.raises(UserError, match=r"share of channels to prune must be in \(0, 1\), got 1"):
        prune_channels(BOTTLENECKS, weights, 1.0)
    with pytest.raises(UserError, match="floor of channels must be at least 1"):
        prune_channels(BOTTLENECKS, weights, 0.1, floor=0)
    assert Place(1, 0) == (1, 0)
