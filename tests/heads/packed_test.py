"""The packed head against values that the published implementation computed."""

import dataclasses

import numpy as np
import pytest

from tfdet.heads.dense import DenseHead
from tfdet.heads.fcos import FCOSHead
from tfdet.heads.packed import PackedStack, PackingConfig, cell_order, gap_count
from tfdet.ops import pack as pack_ops

SIZES = ((32, 40), (16, 20), (8, 10), (4, 5), (2, 3))
SMALL = PackingConfig(filters=8, blocks=2, tower_repeats=1, groups=2)
MAPS = pack_ops.layout(SIZES, 4)


def pyramid(channels=256):
    """The maps that the golden values belong to."""
    c = np.arange(channels)
    maps = {}
    for level, (height, width) in enumerate(SIZES):
        y, x = np.arange(height)[:, None, None], np.arange(width)[:, None]
        values = np.sin(0.37 * c * (1 + 0.01 * y) + 0.11 * y + 0.07 * x * (1 + 0.02 * c) + level)
        maps[f"P{level + 3}"] = values[None].astype(np.float32)
    return maps


def published_names(head):
    stack, predictor = head.stack, head.predictor
    blocks = {f"mf.mf_s{i + 2}_1": block for i, block in enumerate(stack.extras.values())}
    blocks["fe.reduction"] = stack.reduction
    blocks |= {f"fe.conv_blocks.{i}": block for i, block in enumerate(stack.blocks)}
    for name, tower in (("cls", predictor.class_tower), ("bbox", predictor.box_tower)):
        blocks |= {f"predictor.{name}_tower.{i}": block for i, block in enumerate(tower)}
    variables = {"rpn.head.predictor.scale_layer.scales": head.scales}
    for name, block in blocks.items():
        for part, kernel, bias in (
            ("conv", block.conv.kernel, block.conv.bias),
            ("gn", block.norm.gamma, block.norm.beta),
        ):
            variables |= {
                f"rpn.head.{name}.{part}.weight": kernel,
                f"rpn.head.{name}.{part}.bias": bias,
            }
    for name in ("cls_logits", "bbox_pred", "centerness"):
        conv = {
            "cls_logits": predictor.class_conv,
            "bbox_pred": predictor.box_conv,
            "centerness": predictor.centerness_conv,
        }[name]
        variables[f"rpn.head.predictor.{name}.weight"] = conv.kernel
        variables[f"rpn.head.predictor.{name}.bias"] = conv.bias
    return variables


@pytest.fixture(scope="module")
def head(fill_by_rule):
    head = FCOSHead(80, packing=PackingConfig())
    head(pyramid())
    variables = published_names(head)
    assert len(variables) == 87 == len(head.weights)
    fill_by_rule(variables)
    return head


def in_mode(head, fill_by_rule, **changes):
    """The same weights in another mode."""
    other = FCOSHead(80, packing=dataclasses.replace(PackingConfig(), **changes))
    other(pyramid())
    fill_by_rule(published_names(other))
    return other


def test_parameters_are_as_many_as_published(head):
    assert head.count_params() == 4_268_378


def test_packed_predictions_are_the_published_ones(head):
    raw = {name: np.array(value)[0] for name, value in head(pyramid()).items()}
    order, gaps = cell_order(4, SIZES)
    assert len(order) == 48 * 40 and gaps == gap_count(4, (256, 320), 3, 7)
    row_of = np.argsort(order)
    strides = np.repeat(
        2.0 ** np.array([3, 4, 5, 6, 7, 5, 6, 7, 3]), [*map(np.prod, MAPS.sizes), gaps]
    )
    boxes = raw["box_distances"] * strides[:, None]
    logits, center = raw["class_logits"], raw["centerness_logits"]
    assert np.mean(logits) == pytest.approx(0.004605, abs=2e-6)
    assert np.mean(np.abs(logits)) == pytest.approx(0.293982, abs=2e-6)
    assert np.mean(boxes) == pytest.approx(3.99154, abs=2e-4)
    assert np.mean(center) == pytest.approx(-0.015794, abs=2e-6)
    assert np.mean(np.abs(center)) == pytest.approx(0.306244, abs=2e-6)
    for (y, x), classes, box, centerness in [
        ((5, 7), (0.15079, 0.14184, 0.01659), (1.7191, 0, 0.3125, 0.9321), -0.17572),
        ((36, 3), (-0.02709, -0.23799, 0.02354), (0, 0.8494, 2.0053, 0), 0.11675),
        ((44, 33), (-0.51189, -0.42147, 0.33009), (0, 0, 0, 38.244), 0.08874),
        ((37, 27), (1.06418, 0.58295, 0.71664), (74.7847, 12.5998, 0, 30.9508), -0.38414),
        ((35, 23), (-0.07922, 0.12046, 0.79883), (53.1406, 0, 75.7159, 0), -0.22343),
        ((42, 22), (-0.35849, -1.44689, -1.54589), (0, 0, 0, 11.7766), -0.86320),
        ((32, 20), (0.05122, -0.28346, -0.16335), (0.8881, 0, 4.273, 2.8406), -0.05296),
    ]:
        row = row_of[y * 40 + x]
        np.testing.assert_allclose(logits[row, [0, 1, 79]], classes, atol=1e-4)
        np.testing.assert_allclose(boxes[row], box, atol=2e-3)
        assert center[row] == pytest.approx(centerness, abs=1e-4)


def test_stages_of_the_stack_have_the_published_magnitudes(head):
    stack, maps = head.stack, pyramid()
    every = [
        stack.extras[str(i)]([maps[name]])[0] if is_extra else maps[name]
        for i, (name, is_extra) in enumerate(stack.sources)
    ]
    packed = pack_ops.pack(every, 4)
    reduced = stack.reduction([packed])[0]
    for value, expected in ((packed, 0.583554), (reduced, 0.291332), (stack(maps)[0], 0.545118)):
        assert np.mean(np.abs(value)) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("norm", "fine", "fine_mean", "coarse", "coarse_mean"),
    [
        ("joint", (-0.01593, 0.10152, 0.15830), 0.199332, (0.38269, -0.10386, 0.34534), 0.160137),
        (
            "separate",
            (0.45092, -0.11725, -0.59677),
            0.446036,
            (0.48985, -0.24657, 0.77347),
            0.368979,
        ),
    ],
)
def test_unpacked_predictions_are_the_published_ones(
    head, fill_by_rule, norm, fine, fine_mean, coarse, coarse_mean
):
    unpacked = in_mode(head, fill_by_rule, in_inference=False, unpacked_norm=norm)
    logits = np.array(unpacked(pyramid())["class_logits"])[0]
    ends = np.cumsum([h * w for h, w in MAPS.sizes])
    assert len(logits) == ends[-1]
    p3, p7 = logits[: ends[0]], logits[ends[3] : ends[4]]
    np.testing.assert_allclose(p3[5 * 40 + 7, [0, 1, 79]], fine, atol=1e-4)
    np.testing.assert_allclose(p7[1 * 3 + 1, [0, 1, 79]], coarse, atol=1e-4)
    assert np.mean(np.abs(p3)) == pytest.approx(fine_mean, abs=2e-6)
    assert np.mean(np.abs(p7)) == pytest.approx(coarse_mean, abs=2e-6)


def small_pyramid(batch=2, sizes=SIZES):
    rng = np.random.default_rng(0)
    return {
        f"P{i + 3}": rng.normal(size=(batch, h, w, 16)).astype(np.float32)
        for i, (h, w) in enumerate(sizes)
    }


@pytest.mark.parametrize("training", [False, True])
def test_training_and_inference_pack_as_they_are_told(training):
    config = dataclasses.replace(SMALL, in_training=training, in_inference=not training)
    stack = PackedStack(config)
    maps = small_pyramid()
    assert [len(stack(maps, training=mode)) for mode in (training, not training)] == [1, 8]


@pytest.mark.parametrize("pattern", [1, 2, 3, 4, 5])
def test_anchor_rows_are_the_maps_without_the_gaps(pattern):
    sizes = ((16, 32), (8, 16), (4, 8), (2, 4), (1, 2))
    config = dataclasses.replace(SMALL, pattern=pattern)
    maps = small_pyramid(sizes=sizes)
    packed = DenseHead(3, packing=config)
    rows = packed(maps)["class_logits"]
    levels = pack_ops.map_levels(pattern)
    assert rows.shape == (2, sum(sizes[i][0] * sizes[i][1] for i in levels) * 9, 3)
    # The first map of the packed class predictions, cut out by hand.
    predicted = packed.predictor(packed.stack(maps))["class"][0][:, :16, :32]
    np.testing.assert_array_equal(rows[:, : 16 * 32 * 9], np.reshape(predicted, (2, -1, 3)))


def test_joint_statistics_are_those_of_all_cells():
    maps = list(small_pyramid().values())
    block = PackedStack(SMALL).reduction
    joint = block(maps, joint=True)
    rows = np.concatenate([np.reshape(x, (2, -1, 1, 16)) for x in maps], axis=1)
    together = np.array(block([rows])[0])[:, :, 0]
    np.testing.assert_allclose(
        np.concatenate([np.reshape(x, (2, -1, 8)) for x in joint], axis=1), together, atol=1e-5
    )
    assert np.max(np.abs(np.array(joint[-1]) - np.array(block(maps)[-1]))) > 1e-3
