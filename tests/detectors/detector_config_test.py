import pytest

from tfdet.detectors.detector_config import DetectorConfig, NetworkConfig
from tfdet.errors import UserError


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
    ],
)
def test_values_that_cannot_be_are_refused(keys, message):
    with pytest.raises(UserError, match=message):
        NetworkConfig(**keys)


def test_names_may_be_given_before_their_number_is_known():
    config = DetectorConfig(class_names=("ant", "bee"))
    with pytest.raises(UserError, match="class_names has 2 entries for num_classes=80"):
        config.check_classes()
    DetectorConfig(num_classes=2, class_names=("ant", "bee")).check_classes()


def test_an_image_without_a_cell_at_the_finest_level_is_refused():
    config = DetectorConfig(image_size=(8, 7))
    with pytest.raises(UserError, match="at least 8 on each side, got 8x7"):
        config.check_side(3)
    config.check_side(2)


def test_a_part_has_the_classes_and_the_size_of_the_whole():
    whole = DetectorConfig(image_size=(64, 96), num_classes=2, class_names=("ant", "bee"))
    name, config = whole.config_of_part("dense", {"name": "fcos-test", "fpn_width": 24})
    assert (name, config.fpn_width, config.image_size) == ("fcos-test", 24, (64, 96))
    assert (config.class_names, config.weight_decay) == (("ant", "bee"), 0.0)
    with pytest.raises(UserError, match=r"dense\.image_size cannot be set"):
        whole.config_of_part("dense", {"name": "fcos-test", "image_size": [64, 64]})
    with pytest.raises(UserError, match="dense lacks the key 'name'"):
        whole.config_of_part("dense", {"fpn_width": 24})
