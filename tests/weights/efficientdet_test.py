"""Which registered EfficientDet a checkpoint is for."""

import keras
import pytest

from tfdet import registry
from tfdet.errors import UserError
from tfdet.weights import efficientdet
from tfdet.weights.efficientdet import Variant

D0 = Variant("b0", 64, 3, 3, 7, True)


def test_settings_make_the_published_function_of_any_registered_model():
    for name in registry.families()["efficientdet"]:
        config = registry.config(name)
        variant = Variant(
            config.backbone,
            config.fpn_width,
            config.fpn_cells,
            config.head_repeats,
            config.max_level,
            config.fpn_fusion != "sum",
        )
        made = registry.config(name, **efficientdet.settings(name, variant, 7))
        assert made == registry.config(name, num_classes=7), name


def test_the_fitting_models_are_offered():
    with pytest.raises(UserError, match=r"3 cells of 64 channels with weighted sums .* use eff"):
        efficientdet.settings("efficientdet-d1", D0, 90)
    d6 = Variant("b6", 384, 8, 5, 7, False)
    with pytest.raises(UserError, match=r"use efficientdet-d6 or efficientdet-d7$"):
        efficientdet.settings("efficientdet-d0", d6, 90)
    with pytest.raises(UserError, match=r"no registered model is$"):
        efficientdet.settings("efficientdet-d0", D0._replace(fpn_cells=9), 90)


def test_a_model_is_checked_by_its_configuration():
    def unbuilt(**changes):
        config = registry.config("efficientdet-d0", **changes)
        with keras.StatelessScope(initialize_variables=False):
            return registry.detector_class("efficientdet-d0").from_record(config, "d0")

    model = unbuilt(image_size=(64, 64), num_classes=3)
    assert efficientdet.check(model, D0) is model
    with pytest.raises(UserError, match="for pixels='imagenet', the model has 'lite'"):
        efficientdet.check(unbuilt(pixels="lite"), D0)
    with pytest.raises(UserError, match="heads without residuals"):
        efficientdet.check(unbuilt(head_drop_rate=0.2), D0)
