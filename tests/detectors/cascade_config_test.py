"""The records that cascades are made of."""

import json

import pytest

from tfdet import records, registry
from tfdet.detectors.cascade_config import CascadeConfig
from tfdet.errors import UserError


def test_a_cascade_survives_json_and_takes_nested_changes():
    config = registry.config("dy-efficientdet-d0", num_classes=3, **{"second.fpn_cells": 4})
    data = json.loads(json.dumps(records.to_dict(config)))
    assert records.from_dict(CascadeConfig, data) == config
    assert config.part("first")[1].fpn_cells == 3
    name, second = config.part("second")
    assert (name, second.fpn_cells, second.num_classes) == ("efficientdet-d0", 4, 3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"first.fpn_cels": 2}, r"unknown key 'first.fpn_cels'; did you mean 'fpn_cells'"),
        ({"second.name": "efficientdet-d9"}, "unknown model 'efficientdet-d9'"),
        ({"second.num_classes": 3}, "second.num_classes cannot be set: parts have the num_classes"),
        ({"threshold": 1.5}, "threshold must be between 0 and 1, got 1.5"),
        ({"step": "both"}, "step must be one of 'joint', 'router'"),
        ({"first": {"name": None}}, "first lacks the key 'name'"),
        ({"router_reduction": 0}, "router_reduction must be at least 1, got 0"),
    ],
)
def test_mistakes_in_a_configuration_are_named(overrides, message):
    with pytest.raises(UserError, match=message):
        registry.config("dy-efficientdet-test", **overrides)
