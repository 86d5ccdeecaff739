"""What is special in cascades of two-stage detectors: one neck and one set of heads for both."""

import keras
import numpy as np
import pytest

from tfdet import profiling, registry
from tfdet.detectors.dynamicdet import DynamicDetector
from tfdet.detectors.second_backbone import BackboneConfig, SecondBackbone
from tfdet.errors import UserError

# In mmdetection's convention at 800x1280, in G: the early path without the router, and what the
# late one costs more. CBNetV2 has 283.6 and 357.3 G in all; DynamicDet's tables come to 76.5 and
# 93.5. Parameters of the fusion, of the router, and in M of all without the router.
PUBLISHED = {
    "dy-faster-rcnn-r50": (207.07, 76.65, 4_587_520 + 5_632, 3_688_321, 69),
    "dy-mask-rcnn-swin-t": (263.8, 93.4, 646_176, 519_121, 76),
}


@pytest.fixture(scope="module", params=PUBLISHED)
def counted(request):
    """Of a published cascade: its name, a profile, moving statistics, operations of both paths."""
    name, size = request.param, (800, 1280)
    with keras.StatelessScope(initialize_variables=False):
        model = registry.detector_class(name).from_record(registry.config(name), name)
        model.build_variables()
        paths = {
            name: profiling.path_operations(model, path, size).mmdet_flops / 1e9
            for name, path in model.paths.items()
        }
        moving = sum(np.prod(v.shape) for v in model.weights if v.name.startswith("moving_"))
        return name, profiling.profile(model, size), moving, paths


def test_paths_cost_what_is_published(counted):
    name, profile, _, paths = counted
    early, slope, *_ = PUBLISHED[name]
    router = profile.parts["router"].mmdet_flops / 1e9
    assert paths["early"] - router == pytest.approx(early, rel=3e-3)
    assert paths["late"] - paths["early"] == pytest.approx(slope, abs=0.05)


def test_parameters_are_those_of_cbnet_and_a_router(counted):
    name, profile, moving, _ = counted
    *_, fusion, router, millions = PUBLISHED[name]
    parts = profile.parts
    assert (parts["fusion"].parameters, parts["router"].parameters) == (fusion, router)
    total = (profile.parameters_total - moving - router) / 1e6
    assert int(total + 0.1) == millions
    assert "other" not in parts and "second_neck" not in parts


def test_neck_and_heads_are_there_once():
    model = registry.create("dy-faster-rcnn-test", num_classes=3)
    assert model.heads_of("second") is model.first
    owners = {v.path.split("/")[1] for v in model.weights}
    assert owners == {"first", "second", "fusion", "router"}
    inner = {v.path.split("/")[2] for v in model.second.weights}
    assert inner == {"backbone"}
    first = {v.path.split("/")[3] for v in model.first.backbone.weights}
    second = {v.path.split("/")[3] for v in model.second.weights}
    borrowed = {"stem_conv", "stem_bn", "stage_1_block_0"}
    assert first - second == borrowed and second < first


@pytest.mark.parametrize("name", ["dy-faster-rcnn-test", "dy-mask-rcnn-test"])
def test_the_second_backbone_begins_where_the_paper_says(name):
    """At first the fusion adds nothing, or the first backbone's own levels."""
    model = registry.create(name, num_classes=3)
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    taps = model.first.taps(images)
    for ours, theirs in zip(model.second.weights, _twins(model), strict=True):
        ours.assign(theirs)
    second = model.second_taps(images, taps)
    expected = {level: taps[level] for level in second}
    if "tokens" in taps:
        expected = model.second.backbone(taps["tokens"], added=expected)
    for level, x in second.items():
        np.testing.assert_allclose(x, expected[level], atol=1e-4)


def _twins(model):
    """The first backbone's variables with the names of the second's."""
    first = {v.path.partition("/backbone/")[2]: v for v in model.first.backbone.weights}
    return [first[v.path.partition("/backbone/")[2]] for v in model.second.weights]


BATCH = (
    np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3)).astype(np.uint8),
    {"boxes": np.array([[[4, 6, 40, 44]]], np.float32), "labels": np.array([[1]], np.int32)},
)


def test_shared_heads_learn_from_both_and_follow_the_steps_of_the_whole():
    model = registry.create("dy-faster-rcnn-test", num_classes=3, first_weight=0.5)
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    assert "second_class_loss" in model.loss_names
    raw = model(BATCH[0], training=True)
    found = []
    for step in (0, 7, 0):
        model.optimizer.iterations.assign(step)
        model.reset_metrics()
        model.compute_loss(*BATCH, raw)
        found.append(float(model.loss_trackers[0].result()))
    assert found[0] == found[2] != found[1]  # the samples of a step follow from its number


def test_the_first_detector_counts_as_much_as_is_said():
    images, targets = BATCH
    model = registry.create("dy-faster-rcnn-test", num_classes=3, first_weight=0.5)
    raw = model(images, training=True)
    terms = model.loss_terms(targets, raw)
    alone = model.first.loss_terms(targets, raw["first"])
    for name, value in alone.items():
        assert float(terms[f"first_{name}"]) == pytest.approx(0.5 * float(value), rel=1e-5)


def test_the_router_may_look_at_some_levels_only():
    model = registry.create("dy-faster-rcnn-test", num_classes=3, router_levels=(4, 5))
    channels = model.first.tap_channels
    assert model.router.hidden.kernel.shape[0] == channels["P4"] + channels["P5"]


def test_heads_are_shared_by_other_backbones_too():
    first = registry.create("fcos-test", num_classes=3)
    second = SecondBackbone(BackboneConfig.of("fcos-test", first.config), (3, 4, 5))
    model = DynamicDetector(first, second, name="pair")
    model.build_variables()
    images = np.zeros((1, *first.image_size, 3), "float32")
    assert {float(model.detect_fitted(images, t)["is_hard"][0]) for t in (0.0, 1.0)} == {0.0, 1.0}


APART, EFFICIENT = {"shared_heads": False}, {"first.backbone": "test"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"first.name": "efficientdet-test", **EFFICIENT},
            "efficientdet-test cannot share its neck and heads",
        ),
        ({"second.hidden": 3}, "unknown key 'second.hidden'"),
        (
            {"first.name": "mask-rcnn-test", "second.name": "faster-rcnn-test", **APART},
            "both detectors must find masks of one size, or neither any",
        ),
        ({"first_weight": -1.0}, "first_weight must be at least 0, got -1"),
        ({"router_levels": (7,)}, "the router has no P7 to look at, only P2"),
        ({"first.backbone": "mnv2-test"}, "'mnv2-test' cannot be the second of a cascade"),
    ],
)
def test_mistakes_in_a_configuration_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        registry.create("dy-faster-rcnn-test", **changes)
