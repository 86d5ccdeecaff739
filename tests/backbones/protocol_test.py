import keras
import numpy as np
import pytest

from tfdet.backbones.catalog import make_backbone
from tfdet.backbones.protocol import (
    Backbone,
    ContinuingBackbone,
    JoinableBackbone,
    check_levels,
    check_maps,
    is_level,
    level_channels,
)
from tfdet.errors import UserError


class Named(keras.layers.Layer):
    def __init__(self, channels=None, **kwargs):
        super().__init__(**kwargs)
        if channels is not None:
            self.channels = channels


def functional(outputs=("P3", "P4")):
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=8, padding="same")(images)
    y = keras.layers.Conv2D(6, 3, strides=2, padding="same")(x)
    return keras.Model(images, dict(zip(outputs, (x, y), strict=True)))


def test_levels_are_told_from_side_outputs():
    assert all(is_level(name) for name in ("P1", "P3", "P10"))
    assert not any(is_level(name) for name in ("gates", "tokens", "P", "P0", "P3a", "p3", "aux_P3"))


def test_channels_come_finest_first():
    assert list(level_channels(Named({"P5": 3, "P10": 1, "P3": 2}))) == ["P3", "P5", "P10"]


def test_a_functional_model_needs_no_channels_also_after_loading(tmp_path):
    model = functional()
    assert level_channels(model) == {"P3": 4, "P4": 6}
    model.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras")
    assert level_channels(loaded) == {"P3": 4, "P4": 6}
    assert level_channels(functional(("P3", "gates"))) == {"P3": 4}


def test_what_is_no_backbone_is_refused():
    with pytest.raises(UserError, match="backbone must be a Keras layer, got str: 'r50'"):
        level_channels("r50")
    with pytest.raises(UserError, match=r"attribute `channels`.*; Named has none"):
        level_channels(Named())
    with pytest.raises(UserError, match=r"attribute `channels`.*; Dense has none"):
        level_channels(keras.layers.Dense(3))
    for wrong in ({}, {"c3": 4}, {"P3": 0}, {"P3": "4"}, [4, 8]):
        with pytest.raises(UserError, match=r"attribute `channels`.*; Named has"):
            level_channels(Named(wrong))


def test_missing_levels_are_named_with_their_size():
    channels = {"P3": 4, "P4": 4, "P5": 4}
    check_levels(channels, ("P3", "P5"), "FCOS")
    with pytest.raises(
        UserError,
        match="FasterRCNN needs the levels P2, P3, P4, P5 of its backbone, this one has P3, P4, "
        r"P5; return P2 too \(P2 has 1/4 of the image's sides\)",
    ):
        check_levels(channels, ("P2", "P3", "P4", "P5"), "FasterRCNN")


def test_maps_are_compared_with_what_was_announced():
    maps = {"P3": np.zeros((1, 8, 9, 4)), "gates": np.zeros((1, 5))}
    check_maps(maps, {"P3": 4}, (61, 72), "backbone")
    check_maps(maps, {"P3": None}, (None, None), "neck")
    with pytest.raises(UserError, match=r"backbone must return a dict of maps .*, got ndarray"):
        check_maps(maps["P3"], {"P3": 4}, (61, 72), "backbone")
    with pytest.raises(UserError, match="neck must return P3, P4, it returned P3, gates"):
        check_maps(maps, {"P3": 4, "P4": 4}, (61, 72), "neck")
    for channels, size, expected in (
        ({"P3": 5}, (61, 72), r"\[any, 8, 9, 5\] for images of 61x72, got \[1, 8, 9, 4\]"),
        ({"P3": 4}, (61, 73), r"\[any, 8, 10, 4\] for images of 61x73, got \[1, 8, 9, 4\]"),
    ):
        with pytest.raises(UserError, match=f"P3 of the backbone must have shape {expected}"):
            check_maps(maps, channels, size, "backbone")


@pytest.mark.parametrize(
    ("name", "is_joinable", "begins_with"),
    [
        ("resnet-test", True, "P2"),
        ("swin-test", True, "tokens"),
        ("test", True, None),
        ("mnv2-test", False, None),
    ],
)
def test_backbones_of_the_garden_follow_the_protocols(name, is_joinable, begins_with):
    backbone = make_backbone(name, (2, 3, 4, 5), "plain", role="second")
    assert isinstance(backbone, Backbone)
    assert isinstance(backbone, JoinableBackbone) == is_joinable
    assert isinstance(backbone, ContinuingBackbone) == (begins_with is not None)
    if begins_with:
        assert backbone.begins_with == begins_with
