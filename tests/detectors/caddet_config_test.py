import pytest

from tfdet import registry
from tfdet.errors import UserError


def test_the_record_of_any_dense_detector_takes_its_keys():
    config = registry.config("caddet", dense={"name": "fcos-nano", "fpn_width": 24})
    assert config.part()[1].fpn_width == 24 and config.pixels == "imagenet"
    with pytest.raises(UserError, match=r"dense\.num_classes cannot be set"):
        registry.config("caddet", dense={"name": "fcos-nano", "num_classes": 3})
    with pytest.raises(UserError, match="dense lacks the key 'name'"):
        registry.config("caddet", dense={"name": None})


def test_keys_of_other_backbones_are_refused():
    with pytest.raises(UserError, match="backbone of a CADDet is 'supernet'"):
        registry.config("caddet-test", backbone="r50")
    with pytest.raises(UserError, match="frozen_stages of a CADDet is 0"):
        registry.config("caddet-test", frozen_stages=1)
