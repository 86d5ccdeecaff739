import numpy as np
import pytest

from tfdet import registry
from tfdet.errors import UserError


def test_overrides_reach_nested_records():
    config = registry.config("efficientdet-d0", num_classes=3, **{"nms.method": "hard"})
    assert (config.num_classes, config.nms.method) == (3, "hard")
    assert registry.config("efficientdet-d0", nms={"method": "hard"}).nms.method == "hard"


def test_unknown_names_and_keys_name_the_nearest():
    with pytest.raises(UserError, match="did you mean 'efficientdet-d0'"):
        registry.create("eficientdet-d0")
    with pytest.raises(UserError, match="did you mean 'num_classes'"):
        registry.config("efficientdet-d0", num_clases=3)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="registered already"):
        registry.register("efficientdet-d0", object, None)


def test_created_models_have_their_variables():
    model = registry.create("efficientdet-test", num_classes=3)
    assert model.built
    raw = model(np.zeros((1, 64, 64, 3), np.uint8))
    assert raw["class_logits"].shape == (1, 774, 3)


def test_the_module_in_front_of_a_name_is_no_part_of_the_variables():
    config = registry.config("efficientdet-test")
    registry.register("elsewhere:mine", registry.detector_class("efficientdet-test"), config)
    try:
        model = registry.create("elsewhere:mine", num_classes=3)
    finally:
        del registry._MODELS["elsewhere:mine"]
    assert model.name == "mine"
    assert all(variable.path.startswith("mine/") for variable in model.weights)
