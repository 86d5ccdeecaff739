import itertools

import keras
import numpy as np
import pytest
from keras import ops

from tfdet.layers.fusion import METHODS
from tfdet.layers.resample import enlarge_nearest, shrink
from tfdet.necks.feature_network import FeatureNetwork, FPNCell, GlobalAttention, NodeStyle
from tfdet.necks.topologies import TOPOLOGIES, FPNNode

SMALL = NodeStyle(filters=4)


def _features(height=24, width=40, levels=(3, 4, 5), seed=0):
    rng = np.random.default_rng(seed)
    features = {}
    for level in range(1, 6):
        height, width = -(-height // 2), -(-width // 2)
        if level in levels:
            features[f"P{level}"] = rng.normal(size=(2, height, width, 10 + level)).astype(
                "float32"
            )
    return features


def test_coarser_levels_are_pooled_after_the_convolution():
    neck = FeatureNetwork(style=SMALL, cells=0)
    features = _features(100, 140)
    maps = neck(features)
    p6 = neck.coarser["P6"]
    converted = p6.bn(p6.conv(features["P5"]))
    np.testing.assert_array_equal(maps["P6"], shrink(converted, (2, 3)))
    np.testing.assert_array_equal(maps["P7"], shrink(maps["P6"], (1, 2)))
    assert not neck.coarser["P7"].weights


def test_a_bifpn_cell_is_what_the_paper_writes():
    keras.utils.set_random_seed(0)
    neck = FeatureNetwork(style=SMALL, cells=1)
    # Odd sizes, so that neither direction is a whole factor.
    inputs = {f"P{i}": x for i, x in zip(range(3, 8), _pyramid(21, 13), strict=True)}
    maps = neck(inputs)
    nodes = neck.cells[0].fnodes
    for node in nodes:
        for weight, value in zip(node.fusion.weights, (0.5, 2.0, 1.0), strict=False):
            weight.assign(value)
    maps = neck(inputs)
    sizes = [x.shape[1:3] for x in inputs.values()]

    def fuse(i, parts):
        factors = (0.5, 2.0, 1.0)[: len(parts)]
        total = sum(f * x for f, x in zip(factors, parts, strict=True)) / (sum(factors) + 1e-4)
        return nodes[i].bn(nodes[i].conv(ops.silu(total)))

    p3, p4, p5, p6, p7 = inputs.values()
    top6 = fuse(0, [p6, enlarge_nearest(p7, sizes[3])])
    top5 = fuse(1, [p5, enlarge_nearest(top6, sizes[2])])
    top4 = fuse(2, [p4, enlarge_nearest(top5, sizes[1])])
    out3 = fuse(3, [p3, enlarge_nearest(top4, sizes[0])])
    out4 = fuse(4, [p4, top4, shrink(out3, sizes[1])])
    out5 = fuse(5, [p5, top5, shrink(out4, sizes[2])])
    out6 = fuse(6, [p6, top6, shrink(out5, sizes[3])])
    out7 = fuse(7, [p7, shrink(out6, sizes[4])])
    for ours, expected in zip(maps.values(), (out3, out4, out5, out6, out7), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def _pyramid(height, width):
    rng = np.random.default_rng(0)
    maps = []
    for _ in range(5):
        maps.append(rng.normal(size=(1, height, width, 4)).astype("float32"))
        height, width = -(-height // 2), -(-width // 2)
    return maps


def test_laterals_are_made_once_per_use_in_the_first_cell_only():
    neck = FeatureNetwork(style=SMALL, cells=2)
    neck(_features())
    with_variables = [
        [r.name for r in node.resamples if r.weights] for cell in neck.cells for node in cell.fnodes
    ]
    assert [name for names in with_variables for name in names] == [
        *["resample_0_2_6", "resample_0_1_7", "resample_0_0_8"],
        *["resample_0_1_9", "resample_0_2_10"],
    ]


@pytest.mark.parametrize("fpn", sorted(TOPOLOGIES))
@pytest.mark.parametrize("size", [(24, 40), (65, 33)])
def test_every_network_keeps_the_sizes_of_the_levels(fpn, size):
    maps = FeatureNetwork(fpn, SMALL, cells=1)(_features(*size))
    sizes = [x.shape[1:3] for x in maps.values()]
    assert list(maps) == ["P3", "P4", "P5", "P6", "P7"]
    assert {x.shape[-1] for x in maps.values()} == {4}
    for (h, w), coarser in itertools.pairwise(sizes):
        assert coarser == (-(-h // 2), -(-w // 2))


@pytest.mark.parametrize("fusion", METHODS)
def test_every_fusion_is_one_setting(fusion):
    neck = FeatureNetwork(style=NodeStyle(filters=4, fusion=fusion), cells=1)
    assert neck(_features())["P7"].shape == (2, 1, 1, 4)


def test_global_attention_gates_the_finer_map_by_the_coarser_one():
    node = FPNNode(4, (0, 1), "attention")
    rng = np.random.default_rng(0)
    fine, coarse = (rng.normal(size=(1, n, n, 4)).astype("float32") for n in (8, 4))
    cell = FPNCell((FPNNode(3, (0,)), node), NodeStyle(filters=4))
    fine_out, coarse_out = cell([fine, coarse])
    assert fine_out.shape == fine.shape
    gate = 1 / (1 + np.exp(-coarse.max((1, 2), keepdims=True)))
    last = cell.fnodes[1]
    expected = coarse + shrink(fine, (4, 4)) * gate
    np.testing.assert_allclose(coarse_out, last.bn(last.conv(ops.silu(expected))), atol=1e-5)


def test_global_attention_adds_what_else_it_gets():
    a, b, c = (np.full((1, 2, 2, 1), v, "float32") for v in (0.0, 2.0, 10.0))
    np.testing.assert_allclose(GlobalAttention()([a, b, c]), np.full((1, 2, 2, 1), 11.0))


def test_the_activation_comes_first_or_last():
    features = _features()
    first = FeatureNetwork(style=NodeStyle(filters=4, activation="relu"), cells=1)
    style = NodeStyle(filters=4, activation="relu", conv_bn_act=True)
    last = FeatureNetwork(style=style, cells=1)
    assert np.min(first(features)["P3"]) < 0
    assert np.min(last(features)["P3"]) == 0
    assert last.cells[0].fnodes[0].conv.use_bias is False


@pytest.mark.parametrize("names", [("P4", "P5"), ("P3", "P5"), ("P6",)])
def test_gaps_in_the_backbones_levels_are_refused(names):
    features = {name: np.zeros((1, 4, 4, 3), "float32") for name in names}
    with pytest.raises(ValueError, match="starts at P3"):
        FeatureNetwork(style=SMALL)(features)


@pytest.mark.parametrize("fpn", ["nas_fpn", (FPNNode(3, (0, 1)), FPNNode(4, (1, 2)))])
def test_it_is_rebuilt_from_its_configuration(fpn):
    max_level = 7 if fpn == "nas_fpn" else 4
    neck = FeatureNetwork(fpn, SMALL, 2, max_level=max_level)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(neck))
    features = {k: x for k, x in _features().items() if int(k[1:]) <= max_level}
    neck(features), again(features)
    again.set_weights(neck.get_weights())
    for name, x in neck(features).items():
        np.testing.assert_array_equal(again(features)[name], x)
