"""Orders of outputs, and which ResNet a file has; the sources' own tests use the rest."""

import dataclasses

import keras
import numpy as np
import pytest

from tests.weights import foreign
from tfdet import registry
from tfdet.backbones.resnet import STYLES, ResNet
from tfdet.errors import UserError
from tfdet.weights import parts

SHAPES = foreign.shapes("torchvision", "resnet50")


def style(own, **habits):
    habits = {"strides_first": False, "epsilon": 1e-5, **habits}
    return parts.resnet_style(own, "", SHAPES, "a project", **habits)


def test_a_models_resnet_gets_the_habits_of_the_file():
    assert style("r50") == style("r50-3x3") == "r50-3x3"
    assert style("r50-3x3", strides_first=True, epsilon=0.0) == "r50"
    assert style("r50", epsilon=0.0) == "r50-3x3-eps0"
    found = style("r50", epsilon=1e-3)
    assert found == dataclasses.replace(STYLES["r50-3x3"], epsilon=1e-3)


def test_a_resnet_with_other_shapes_is_refused():
    for own in ("r18", "r101", "x101", "mnv2"):
        with pytest.raises(UserError, match="a project are for a ResNet with 3x4x6x3 blocks"):
            style(own)


def test_a_resnets_tensors_have_torchvisions_names():
    body = ResNet("r50-3x3")
    body.build((None, 32, 32, 3))
    names = {x.name for x in parts.resnet_tensors("", body)}
    assert names == {name for name in SHAPES if not name.startswith("fc.")}


def test_codes_are_turned_and_become_multiples():
    codes = np.arange(8.0)
    np.testing.assert_array_equal(parts.codes(codes), [1, 0, 3, 2, 5, 4, 7, 6])
    expected = [10, 0, 15, 10, 50, 40, 35, 30]
    np.testing.assert_array_equal(parts.weighted_codes(codes), expected)
    kernel = np.broadcast_to(codes[:, None, None, None], (8, 2, 3, 3))
    np.testing.assert_array_equal(parts.weighted_codes(kernel)[:, 1, 2, 2], expected)


def test_a_vector_may_have_a_tensor_for_each_number():
    scales = keras.Variable(np.ones(3, "float32"))
    first, _, last = parts.numbers("scales.{}.scale", (1,), scales)
    assert (first.name, last.name) == ("scales.0.scale", "scales.2.scale")
    assert last.assign(np.full(1, 5.0)) and first.assign(np.full(1, 7.0))
    np.testing.assert_array_equal(scales.numpy(), [7, 1, 5])


def test_a_constant_does_not_look_at_its_tensor():
    variable = keras.Variable(np.zeros((2, 3), "float32"))
    assert parts.fixed("bias", (4,), variable, 0.5).assign(np.full(4, 9.0))
    np.testing.assert_array_equal(variable.numpy(), np.full((2, 3), 0.5))


def test_the_names_of_a_file_choose_the_spelling():
    assert parts.spelled({"a.weight": (1,), "b.weight": (1,)}, "a", "b") == "a"
    assert parts.spelled({"b.weight": (1,)}, "a", "b") == "b"
    assert parts.spelled({}, "a", "b") == "b"


def test_owners_are_found_by_name_and_by_configuration():
    found = parts.owner_of("dy-faster-rcnn-r50")
    assert (found.prefix, found.config.backbone) == ("first.", "r50-3x3")
    changed = registry.config("fcos-nano", backbone="r101")
    assert parts.owner_of(changed)[:2] == ("", changed)


def test_keys_that_choose_detections_may_differ():
    model = foreign.unfilled("fcos-test")
    parts.check(model, {"nms.iou_threshold": 0.1, "num_classes": 90}, "a project")
    with pytest.raises(
        UserError, match="with point_style='mmdet', this one has point_style='fcos'"
    ):
        parts.check(model, {"point_style": "mmdet"}, "a project")
