import keras
import numpy as np
import pytest

from tfdet import profiling
from tfdet.backbones.swin import PatchMerging, Swin
from tfdet.errors import UserError


def test_levels_halve_and_double():
    body = Swin("swin-test")
    maps = body(np.zeros((1, 61, 90, 3), np.float32))
    assert {name: tuple(x.shape[1:]) for name, x in maps.items()} == {
        "P2": (16, 23, 8),
        "P3": (8, 12, 16),
        "P4": (4, 6, 32),
        "P5": (2, 3, 64),
    }
    shifts = [block.attention.shift for stage in body.stages for block in stage]
    assert shifts == [0, 0, 1, 0, 0]
    rates = [block.drop_rate for stage in body.stages for block in stage]
    np.testing.assert_allclose(rates, [0, 0.05, 0.1, 0.15, 0.2])


def test_patches_are_joined_in_the_published_order():
    layer = PatchMerging()
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 2)).astype(np.float32)
    layer(x)
    layer.reduce.kernel.assign(np.eye(8, 4))
    padded = np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))
    order = [(0, 0), (1, 0), (0, 1), (1, 1)]
    joined = np.concatenate([padded[:, i::2, j::2] for i, j in order], axis=-1)
    normed = (joined - joined.mean(-1, keepdims=True)) / np.sqrt(
        joined.var(-1, keepdims=True) + 1e-5
    )
    np.testing.assert_allclose(layer(x), normed[..., :4], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "operations", "parameters"),
    [("mask-rcnn-swin-t", 263.8, 47.79), ("mask-rcnn-swin-s", 353.8, 69.11)],
)
def test_counts_are_the_published_ones(name, operations, parameters):
    profile = profiling.profile(name, (800, 1280))
    assert profile.mmdet_flops / 1e9 == pytest.approx(operations, rel=0.003)
    assert round(profile.parameters_total / 1e6, 2) == parameters
    if name == "mask-rcnn-swin-t":
        assert round(profile.parts["backbone"].macs / 1e9, 2) == 92.46


def test_gradient_checkpointing_and_saving_keep_the_outputs(tmp_path):
    x = np.random.default_rng(0).normal(size=(1, 40, 48, 3)).astype(np.float32)
    inputs = keras.Input(batch_shape=x.shape)
    body = Swin("swin-test", levels=(3, 5))
    model = keras.Model(inputs, body(inputs))
    model.save(tmp_path / "body.keras")
    again = keras.saving.load_model(tmp_path / "body.keras")
    saving = Swin("swin-test", levels=(3, 5), gradient_checkpointing=True)
    saving(x)
    saving.set_weights(body.get_weights())
    for name, expected in body(x).items():
        np.testing.assert_array_equal(again(x)[name], expected)
        np.testing.assert_allclose(saving(x, training=True)[name], expected, atol=1e-5)


def test_unknown_styles_name_the_nearest():
    with pytest.raises(UserError, match="did you mean 'swin-t'"):
        Swin("swin-tt")


def test_a_second_one_goes_on_from_the_first_ones_tokens():
    images = np.random.default_rng(0).normal(size=(1, 32, 48, 3)).astype("float32")
    whole = Swin("swin-test", gives_tokens=True)
    plain = whole(images)
    tokens = plain.pop("tokens")
    second = Swin("swin-test", continues=True)
    second(tokens)
    own = {v.path.partition("/")[2]: v for v in whole.weights}
    for variable in second.weights:
        variable.assign(own[variable.path.partition("/")[2]])
    added = {name: np.asarray(x)[..., ::-1] for name, x in plain.items()}
    for name, x in second(tokens).items():
        np.testing.assert_allclose(x, plain[name], atol=1e-5)
    for name, x in second(tokens, added={"P4": added["P4"]}).items():
        is_after = name in ("P4", "P5")
        assert np.allclose(x, plain[name], atol=1e-5) != is_after
    again = Swin.from_config(second.get_config())
    again(tokens)
    assert [v.shape for v in again.weights] == [v.shape for v in second.weights]
