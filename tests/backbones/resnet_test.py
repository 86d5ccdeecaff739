"""ResNets against the published values, with an FPN on top."""

import keras
import numpy as np
import pytest

from tfdet.backbones.encoding import resnet_encoding
from tfdet.backbones.resnet import STYLES, ResNet
from tfdet.errors import UserError
from tfdet.necks.fpn import FPN


def image():
    """The normalised image that the golden values belong to."""
    c, y, x = np.meshgrid(np.arange(3), np.arange(96), np.arange(128), indexing="ij")
    values = 50 * np.sin(0.5 * c + 0.13 * y) * np.cos(0.09 * x + c) + 20 * np.sin(0.021 * x * y)
    return values.transpose(1, 2, 0)[None].astype(np.float32)


def norm_names(prefix, norm):
    return {
        f"{prefix}.weight": norm.gamma,
        f"{prefix}.bias": norm.beta,
        f"{prefix}.running_mean": norm.moving_mean,
        f"{prefix}.running_var": norm.moving_variance,
    }


def published_names(body):
    names = {"backbone.body.stem.conv1.weight": body.stem_conv.kernel}
    names |= norm_names("backbone.body.stem.bn1", body.stem_bn)
    for s, stage in enumerate(body.stages, start=1):
        for i, block in enumerate(stage):
            prefix = f"backbone.body.layer{s}.{i}"
            for n in (1, 2, 3):
                names[f"{prefix}.conv{n}.weight"] = getattr(block, f"conv{n}").kernel
                names |= norm_names(f"{prefix}.bn{n}", getattr(block, f"bn{n}"))
            if block.projection is not None:
                names[f"{prefix}.downsample.0.weight"] = block.projection.kernel
                names |= norm_names(f"{prefix}.downsample.1", block.projection_bn)
    return names


def fpn_names(neck):
    convs = {}
    for n, level in ((2, "P3"), (3, "P4"), (4, "P5")):
        convs[f"fpn_inner{n}"] = neck.lateral[level]
        convs[f"fpn_layer{n}"] = neck.output_convs[level]
    convs |= {f"top_blocks.{name.lower()}": conv for name, conv in neck.coarse.items()}
    return {
        f"backbone.fpn.{name}.{part}": value
        for name, conv in convs.items()
        for part, value in (("weight", conv.kernel), ("bias", conv.bias))
    }


def magnitudes(maps):
    return [float(np.mean(np.abs(x))) for x in maps.values()]


@pytest.mark.parametrize(
    ("coarse_from", "coarse_means", "p6", "p7"),
    [
        ("pyramid", (0.572185, 0.240521), -1.682508, 0.010609),
        # P6 of C5 has 2048 input channels, so its weights are others.
        ("backbone", (0.865629, 0.416371), 0.571201, -0.114265),
    ],
)
def test_r50_with_fpn_gives_the_published_maps(fill_by_rule, coarse_from, coarse_means, p6, p7):
    body, neck = ResNet("r50", levels=(2, 3, 4, 5)), FPN(coarse_from=coarse_from)
    features = body(image())
    upper = {name: features[name] for name in ("P3", "P4", "P5")}
    neck(upper)
    names = published_names(body) | fpn_names(neck)
    assert len(names) == 281
    fill_by_rule(names)
    features = body(image())
    assert magnitudes(features) == pytest.approx((3.763018, 2.172587, 1.475629, 0.882384), abs=3e-6)
    maps = neck({name: features[name] for name in ("P3", "P4", "P5")})
    means = (2.851161, 1.615795, 0.742899, *coarse_means)
    assert magnitudes(maps) == pytest.approx(means, abs=3e-6)
    values = [maps["P3"][0, 2, 3, 10], maps["P5"][0, 1, 2, 10]]
    values += [maps["P6"][0, 1, 1, 10], maps["P7"][0, 0, 0, 10]]
    assert [float(v) for v in values] == pytest.approx((3.945778, -0.802494, p6, p7), abs=1e-5)


@pytest.mark.parametrize(
    ("style", "shape"),
    [
        # Convolutions alone: the published counts have the frozen norms among the buffers.
        ("r50", 23_454_912),
        ("r101", 42_394_816),
        ("r50-3x3", 23_454_912),
        ("x101-dcn", 96_619_534 - 4_330_640 - 3_868_672),
        # torchvision's and timm's whole networks without classifiers and norms.
        ("r18", 11_689_512 - 513_000 - 9_600),
        ("x101-32x4d", 44_177_704 - 2_049_000 - 137_856),
    ],
)
def test_convolutions_have_the_published_number_of_weights(style, shape):
    with keras.StatelessScope(initialize_variables=False):
        body = ResNet(style)
        body.build((1, 64, 64, 3))
    norms = (
        layer
        for layer in body._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    norms = sum(np.prod(v.shape) for layer in norms for v in layer.weights)
    assert sum(np.prod(v.shape) for v in body.weights) - norms == shape


def test_levels_are_the_outputs_of_the_stages_rounded_up():
    body = ResNet("resnet-test", levels=(2, 3, 4, 5), batch_norm="plain", frozen_stages=0)
    maps = body(np.zeros((1, 65, 90, 3), np.float32))
    assert {name: tuple(x.shape[1:]) for name, x in maps.items()} == {
        "P2": (17, 23, 32),
        "P3": (9, 12, 64),
        "P4": (5, 6, 128),
        "P5": (3, 3, 256),
    }


@pytest.mark.parametrize("frozen", [0, 1, 2, 5])
def test_frozen_stages_are_not_trained(frozen):
    body = ResNet("resnet-test", batch_norm="plain", frozen_stages=frozen)
    body(np.zeros((1, 64, 64, 3), np.float32))
    parts = {v.path.split("/")[1].split("_block")[0] for v in body.trainable_variables}
    expected = ["stem_conv", "stage_1", "stage_2", "stage_3", "stage_4"][frozen:]
    assert parts - {"stem_bn"} == set(expected)
    assert ("stem_bn" in parts) == (frozen == 0)


def test_basic_blocks_project_only_where_the_shortcut_changes():
    body = ResNet("r18", levels=(2, 3, 4, 5))
    assert [block.projection is None for stage in body.stages for block in stage] == [
        *(True, True, False, True),
        *(False, True, False, True),
    ]
    x = keras.KerasTensor((1, 65, 90, 3))
    assert [tuple(y.shape[1:]) for y in body(x).values()] == [
        *((17, 23, 64), (9, 12, 128)),
        *((5, 6, 256), (3, 3, 512)),
    ]


def test_strides_are_where_the_style_says():
    for style, first in (("r50", True), ("r50-3x3", False)):
        block = ResNet(style).stages[1][0]
        assert block.conv1.strides == ((2, 2) if first else (1, 1))
        assert block.conv2.strides == ((1, 1) if first else (2, 2))


def test_gradient_checkpointing_and_saving_keep_the_outputs(tmp_path):
    style = resnet_encoding((2, 1, 1, 1), 8, group_width=2, groups=4, deformable_stages=(4,))
    x = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    inputs = keras.Input(batch_shape=(1, 64, 64, 3))
    body = ResNet(style, batch_norm="plain", frozen_stages=1)
    model = keras.Model(inputs, body(inputs))
    for variable in model.weights:
        variable.assign(variable + 0.05 * keras.random.normal(variable.shape, seed=1))
    model.save(tmp_path / "body.keras")
    again = keras.saving.load_model(tmp_path / "body.keras")
    saving = ResNet(style, batch_norm="plain", frozen_stages=1, gradient_checkpointing=True)
    saving(x)
    saving.set_weights(body.get_weights())
    for name, expected in body(x).items():
        np.testing.assert_array_equal(again(x)[name], expected)
    for name, expected in body(x, training=True).items():
        np.testing.assert_allclose(saving(x, training=True)[name], expected, rtol=1e-5, atol=1e-5)


def test_a_last_stage_that_keeps_its_map_has_the_same_values_between_new_ones():
    images = np.random.default_rng(0).normal(size=(2, 65, 90, 3)).astype("float32")
    plain, dilated = (
        ResNet(
            resnet_encoding((1, 1, 1, 3), stem=8, group_width=8, dilated=dilated),
            levels=(3, 4 if dilated else 5),
        )
        for dilated in (False, True)
    )
    plain(images)
    dilated(images)
    dilated.set_weights(plain.get_weights())
    found, expected = dilated(images), plain(images)
    np.testing.assert_array_equal(found["P3"], expected["P3"])
    np.testing.assert_allclose(found["P4"][:, ::2, ::2], expected["P5"], rtol=1e-4, atol=1e-5)


def test_unknown_styles_name_the_nearest():
    with pytest.raises(UserError, match="did you mean"):
        ResNet("r5O")
    assert "r50" in STYLES


def test_a_second_one_goes_on_from_the_first_ones_p2():
    images = np.random.default_rng(0).normal(size=(2, 40, 56, 3)).astype("float32")
    whole = ResNet("resnet-test", levels=(2, 3, 4, 5))
    plain = whole(images)
    second = ResNet("resnet-test", levels=(2, 3, 4, 5), continues=True)
    second(plain["P2"])
    own = {v.path.partition("/")[2]: v for v in whole.weights}
    for variable in second.weights:
        variable.assign(own[variable.path.partition("/")[2]])
    added = {name: 0.1 * np.ones_like(plain[name]) for name in whole.joint_channels}
    expected, found = whole(images, added=added), second(plain["P2"], added=added)
    np.testing.assert_array_equal(found["P2"], plain["P2"])
    for name in ("P3", "P4", "P5"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
        assert np.abs(np.asarray(expected[name] - plain[name])).max() > 1e-3
    again = ResNet.from_config(second.get_config())
    again(plain["P2"])
    assert [v.shape for v in again.weights] == [v.shape for v in second.weights]
