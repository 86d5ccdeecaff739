"""MobileNets against the published values, v2 with an FPN on top."""

import keras
import numpy as np
import pytest

from tfdet import profiling
from tfdet.backbones.mobilenet import MobileNetV1, MobileNetV2
from tfdet.necks.fpn import FPN


def image():
    c, y, x = np.meshgrid(np.arange(3), np.arange(96), np.arange(128), indexing="ij")
    values = 50 * np.sin(0.5 * c + 0.13 * y) * np.cos(0.09 * x + c) + 20 * np.sin(0.021 * x * y)
    return values.transpose(1, 2, 0)[None].astype(np.float32)


def unit_names(prefix, number, kernel, norm):
    """A convolution and its norm, numbered as in the published file."""
    values = {"weight": norm.gamma, "bias": norm.beta}
    values |= {"running_mean": norm.moving_mean, "running_var": norm.moving_variance}
    names = {f"{prefix}.{number + 1}.{part}": value for part, value in values.items()}
    return {f"{prefix}.{number}.weight": kernel, **names}


def published_names(body, neck):
    features = "backbone.body.features"
    names = unit_names(f"{features}.0", 0, body.stem_conv.kernel, body.stem_bn)
    for i, block in enumerate(body.blocks, start=1):
        prefix, units = f"{features}.{i}.conv", []
        if block.expansion is not None:
            units.append((block.expansion.kernel, block.expansion_bn))
        units.append((block.depthwise.kernel, block.depthwise_bn))
        units.append((block.projection.kernel, block.projection_bn))
        for n, (kernel, norm) in enumerate(units):
            names |= unit_names(prefix, 3 * n, kernel, norm)
    convs = {f"top_blocks.{name.lower()}": conv for name, conv in neck.coarse.items()}
    for n, level in ((2, "P3"), (3, "P4"), (4, "P5")):
        convs |= {f"fpn_inner{n}": neck.lateral[level], f"fpn_layer{n}": neck.output_convs[level]}
    for name, conv in convs.items():
        names |= {
            f"backbone.fpn.{name}.{part}": value
            for part, value in (("weight", conv.kernel), ("bias", conv.bias))
        }
    return names


def test_maps_are_the_published_ones(fill_by_rule):
    body, neck = MobileNetV2(levels=(2, 3, 4, 5)), FPN()
    features = body(image())
    neck({name: features[name] for name in ("P3", "P4", "P5")})
    fill_by_rule(published_names(body, neck))
    features = body(image())
    maps = neck({name: features[name] for name in ("P3", "P4", "P5")})
    found = [float(np.mean(np.abs(x))) for x in (*features.values(), *maps.values())]
    expected = (0.441016, 0.083729, 0.042470, 0.044644)
    expected += (0.080545, 0.059806, 0.043023, 0.047271, 0.038387)
    assert found == pytest.approx(expected, abs=2e-6)
    values = [maps["P3"][0, 2, 3, 10], maps["P5"][0, 1, 2, 10]]
    values += [maps["P6"][0, 1, 1, 10], maps["P7"][0, 0, 0, 10]]
    expected = (-0.014156, -0.044392, 0.003049, 0.017473)
    assert [float(v) for v in values] == pytest.approx(expected, abs=2e-6)


def test_levels_have_the_published_widths_and_round_up():
    body = MobileNetV2(levels=(1, 2, 3, 4, 5))
    maps = body.compute_output_spec(keras.KerasTensor((1, 65, 90, 3)))
    assert [tuple(x.shape[1:]) for x in maps.values()] == [
        (33, 45, 16),
        (17, 23, 24),
        (9, 12, 32),
        (5, 6, 96),
        (3, 3, 320),
    ]


def test_saving_keeps_the_outputs(tmp_path):
    x = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    inputs = keras.Input((64, 64, 3))
    model = keras.Model(inputs, MobileNetV2("mnv2-test")(inputs))
    for variable in model.weights:
        variable.assign(variable + 0.05 * keras.random.normal(variable.shape, seed=1))
    model.save(tmp_path / "body.keras")
    again = keras.saving.load_model(tmp_path / "body.keras")
    for name, expected in model(x).items():
        np.testing.assert_array_equal(again(x)[name], expected)


def test_gradient_checkpointing_keeps_the_outputs():
    x = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    plain = MobileNetV2("mnv2-test")
    saving = MobileNetV2("mnv2-test", gradient_checkpointing=True)
    plain(x), saving(x)
    saving.set_weights(plain.get_weights())
    for name, expected in plain(x, training=True).items():
        np.testing.assert_allclose(saving(x, training=True)[name], expected, atol=1e-5)


def test_v1_levels_have_the_published_widths_and_round_up():
    body = MobileNetV1(levels=(2, 3, 4, 5))
    maps = body.compute_output_spec(keras.KerasTensor((1, 65, 90, 3)))
    shapes = [tuple(x.shape[1:]) for x in maps.values()]
    assert shapes == [(17, 23, 128), (9, 12, 256), (5, 6, 512), (3, 3, 1024)]


def test_v1_counts_are_the_published_ones():
    """The paper's 569 M multiply-adds and 4.2 M parameters, without the classifier's 1.024 M."""
    body = MobileNetV1()
    body(np.zeros((1, 64, 64, 3), np.float32))
    body.image_size = (224, 224)
    macs = profiling.path_macs(body, body.compute_output_spec)
    assert (macs + 1024 * 1000) / 1e6 == pytest.approx(569, abs=0.5)
    numbers = sum(np.prod(v.shape) for v in body.trainable_weights)
    assert (numbers + 1025 * 1000) / 1e6 == pytest.approx(4.2, abs=0.05)


def test_v1_saving_and_checkpointing_keep_the_outputs():
    x = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    plain = MobileNetV1("mnv1-test")
    saving = MobileNetV1.from_config({**plain.get_config(), "gradient_checkpointing": True})
    plain(x), saving(x)
    saving.set_weights(plain.get_weights())
    for name, expected in plain(x, training=True).items():
        np.testing.assert_allclose(saving(x, training=True)[name], expected, atol=1e-5)
