"""torchvision's detectors: names and shapes, the order of classes and codes, refusals."""

import numpy as np
import pytest

from tests.weights import foreign
from tfdet.errors import UserError
from tfdet.weights.torchvision import SOURCE

DETECTORS = {
    "fcos_resnet50_fpn": "fcos-r50",
    "retinanet_resnet50_fpn": "retinanet-r50",
    "retinanet_resnet50_fpn_v2": "retinanet-r50",
    "fasterrcnn_resnet50_fpn": "faster-rcnn-r50",
    "maskrcnn_resnet50_fpn": "mask-rcnn-r50",
}


def older(name):
    """A name as files from before torchvision 0.13 have it."""
    for new, old in (("rpn.head.conv.0.0.", "rpn.head.conv."), *_LISTS):
        name = name.replace(new, old)
    return name


_LISTS = [
    *((f"inner_blocks.{i}.0.", f"inner_blocks.{i}.") for i in range(4)),
    *((f"layer_blocks.{i}.0.", f"layer_blocks.{i}.") for i in range(4)),
    *((f"mask_head.{i}.0.", f"mask_head.mask_fcn{i + 1}.") for i in range(4)),
    *((f"_head.conv.{i}.0.", f"_head.conv.{2 * i}.") for i in range(4)),
]


@pytest.mark.parametrize("network", DETECTORS)
@pytest.mark.parametrize("names", ["new", "old"])
def test_every_tensor_has_its_place(network, names):
    shapes = foreign.shapes("torchvision", network)
    if names == "old":
        if network in ("retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"):
            pytest.skip("younger than the new names")
        counters = "num_batches_tracked"  # which frozen batch norms do not have
        shapes = {older(x): s for x, s in shapes.items() if not x.endswith(counters)}
        assert len(shapes) > 250
    assert SOURCE.recognises(shapes) and not SOURCE.backbone_only(shapes)
    model, entries = foreign.created(SOURCE, DETECTORS[network], shapes)
    foreign.check_entries(entries, shapes, model.weights)
    assert model.num_classes == 90
    # Norms that count were not frozen, and kept their epsilon.
    assert model.config.backbone == ("r50-3x3" if names == "new" else "r50-3x3-eps0")
    per_class = {x.name.rpartition(".")[0] for x in entries if x.per_class}
    assert {x.rpartition(".")[2] for x in per_class} in (
        {"cls_logits"},
        {"cls_score", "bbox_pred"},
        {"cls_score", "bbox_pred", "mask_fcn_logits"},
    )


def converted(network, tensor):
    """A tensor that counts its outputs, as the variable of ours gets it; outputs first."""
    shapes = foreign.shapes("torchvision", network)
    _, entries = foreign.created(SOURCE, DETECTORS[network], shapes)
    (entry,) = (x for x in entries if x.name == tensor)
    count = shapes[tensor][0]
    numbers = np.arange(count).reshape(-1, *[1] * (len(entry.shape) - 1))
    array = entry.convert(np.broadcast_to(numbers, entry.shape).astype(np.float32))
    return np.moveaxis(array, -1, 0).reshape(-1, *array.shape[:-1])


def test_the_background_of_regions_comes_last():
    found = converted("fasterrcnn_resnet50_fpn", "roi_heads.box_predictor.cls_score.bias")
    np.testing.assert_array_equal(found, [*range(1, 91), 0])
    found = converted("fasterrcnn_resnet50_fpn", "roi_heads.box_predictor.bbox_pred.bias")
    np.testing.assert_array_equal(found[:8], [5, 4, 7, 6, 9, 8, 11, 10])
    found = converted("maskrcnn_resnet50_fpn", "roi_heads.mask_predictor.mask_fcn_logits.bias")
    np.testing.assert_array_equal(found, range(1, 91))


def test_the_first_class_of_dense_detectors_is_dropped():
    found = converted("retinanet_resnet50_fpn", "head.classification_head.cls_logits.bias")
    np.testing.assert_array_equal(found[:90], range(1, 91))
    np.testing.assert_array_equal(found[90:180], range(92, 182))
    found = converted("retinanet_resnet50_fpn", "head.regression_head.bbox_reg.weight")
    np.testing.assert_array_equal(found[:6, 0, 0, 0], [10, 0, 15, 10, 50, 40])


def test_features_of_regions_are_read_channels_last():
    shapes = foreign.shapes("torchvision", "fasterrcnn_resnet50_fpn")
    _, entries = foreign.created(SOURCE, "faster-rcnn-r50", shapes)
    (entry,) = (x for x in entries if x.name == "roi_heads.box_head.fc6.weight")
    features = np.random.default_rng(0).normal(size=(256, 7, 7)).astype(np.float32)
    array = np.random.default_rng(1).normal(size=(1024, 256 * 49)).astype(np.float32)
    ours = features.transpose(1, 2, 0).ravel() @ entry.convert(array)
    np.testing.assert_allclose(ours, array @ features.ravel(), rtol=1e-3, atol=1e-3)


def test_other_classes_are_counted_without_background():
    shapes = foreign.shapes("torchvision", "retinanet_resnet50_fpn")
    for end in ("weight", "bias"):
        name = f"head.classification_head.cls_logits.{end}"
        shapes[name] = (9 * 4, *shapes[name][1:])
    model, entries = foreign.created(SOURCE, "retinanet-r50", shapes)
    assert model.num_classes == 3
    foreign.check_entries(entries, shapes, model.weights)


def test_a_network_that_was_trained_with_the_epsilon_is_taken():
    shapes = {
        name: shape
        for name, shape in foreign.shapes("torchvision", "fasterrcnn_resnet50_fpn").items()
        if not name.endswith("num_batches_tracked")
    }
    assert SOURCE.settings("faster-rcnn-r50", shapes)["backbone"] == "r50-3x3-eps0"
    model, entries = foreign.created(SOURCE, "faster-rcnn-r50", shapes, backbone="r50-3x3")
    foreign.check_entries(entries, shapes, model.weights)


@pytest.mark.parametrize(
    ("network", "name", "message"),
    [
        ("fcos_resnet50_fpn", "retinanet-r50", "for a FCOS of torchvision.*choose fcos-r50"),
        ("fcos_resnet50_fpn", "fcos-r101", "the model's backbone is r101"),
        ("fasterrcnn_resnet50_fpn", "mask-rcnn-r50", "choose faster-rcnn-r50"),
        ("fasterrcnn_resnet50_fpn", "dy-faster-rcnn-r50", "choose faster-rcnn-r50"),
        ("fasterrcnn_resnet50_fpn_v2", "faster-rcnn-r50", "_v2"),
    ],
)
def test_other_models_are_refused(network, name, message):
    with pytest.raises(UserError, match=message):
        SOURCE.settings(name, foreign.shapes("torchvision", network))


@pytest.mark.parametrize(
    ("network", "name", "key"),
    [
        ("fcos_resnet50_fpn", "fcos-r50", "point_style"),
        ("retinanet_resnet50_fpn", "retinanet-r50", "anchor_style"),
        ("fasterrcnn_resnet50_fpn", "faster-rcnn-r50", "roi_align"),
    ],
)
def test_a_model_with_other_keys_is_refused(network, name, key):
    shapes = foreign.shapes("torchvision", network)
    other = {"point_style": "fcos", "anchor_style": "detectron", "roi_align": "aligned"}[key]
    with pytest.raises(UserError, match=f"{key}='torchvision', this one has {key}='{other}'"):
        foreign.created(SOURCE, name, shapes, **{key: other})
