"""EfficientNets within models, and what a checkpoint says of its scale."""

import keras
import pytest

from tests.backbones.efficientnet_test import LAYOUTS
from tfdet import registry
from tfdet.backbones.efficientnet import EfficientNet
from tfdet.errors import UserError
from tfdet.weights import efficientnet


@pytest.mark.parametrize("scale", LAYOUTS)
def test_published_scales_are_told_by_their_counts(scale):
    widths, _, blocks = LAYOUTS[scale]
    is_lite = scale.startswith("lite")
    assert efficientnet.scale_of(blocks, widths[0], widths[-1], is_lite) == scale
    assert efficientnet.scale_of(blocks, widths[0], widths[-1] + 1, is_lite) is None


def test_parts_are_all_layers_with_weights_in_their_order():
    with keras.StatelessScope(initialize_variables=False):
        backbone = EfficientNet("b1")
        backbone.compute_output_spec(keras.KerasTensor((1, 64, 64, 3)))
    parts = list(efficientnet.parts(backbone))
    variables = [variable.path for part in parts for variable in part.layer.weights]
    assert sorted(variables) == sorted(variable.path for variable in backbone.weights)
    assert [part.role for part in parts[:4]] == [
        *("stem_conv", "stem_bn"),
        *("depthwise_conv", "depthwise_bn"),
    ]
    places = list(dict.fromkeys((part.stage, part.repeat, part.block) for part in parts))
    assert places[:5] == [(-1, -1, -1), (0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3)]
    assert len(places) == 1 + 23


def test_settings_are_those_keys_that_a_model_has():
    assert efficientnet.settings("efficientdet-d0", "lite0", "lite") == {
        "backbone": "lite0",
        "pixels": "lite",
        "activation": "relu6",
    }
    settings = efficientnet.settings("retinanet-r50", "b3", "imagenet")
    assert settings == {"backbone": "b3", "pixels": "imagenet", "frozen_stages": 0}
    registry.config("retinanet-r50", **settings)
    with pytest.raises(UserError, match="yolov7 has no key `backbone`"):
        efficientnet.settings("yolov7", "b3", "imagenet")


def unbuilt(name, **settings):
    """A model without variables."""
    return registry.detector_class(name).from_record(registry.config(name, **settings), name)


def test_a_cascade_with_shared_heads_has_two_backbones():
    settings = efficientnet.settings("dy-faster-rcnn-test", "lite0", "lite")
    assert settings["first.backbone"] == settings["second.backbone"] == "lite0"
    model = unbuilt("dy-faster-rcnn-test", **settings)
    found = efficientnet.backbones(model, "lite0", "lite", "EfficientNet-Lite")
    assert [id(x) for x in found] == [id(model.first.backbone), id(model.second.backbone)]


def test_pixels_and_activations_of_another_function_are_refused():
    model = unbuilt("fcos-test", backbone="b0", pixels="detectron")
    with pytest.raises(UserError, match=r"takes \(pixel - \[123.675, .*set pixels: imagenet"):
        efficientnet.backbones(model, "b0", "imagenet", "EfficientNet")
    model = unbuilt("efficientdet-test", backbone="b0", activation="hswish")
    with pytest.raises(UserError, match="has the activation swish, the model's is hswish"):
        efficientnet.backbones(model, "b0", "imagenet", "EfficientNet")
