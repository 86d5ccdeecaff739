"""torchvision's backbones: names and shapes.

`tests/fixtures/weights/torchvision.json.gz` has the names and shapes of torchvision 0.28's state
dicts; `torchvision_parity_test.py` compares them with those of the installed one.
"""

import numpy as np
import pytest

import tfdet
from tests.weights import foreign, torch_files
from tfdet.backbones import resnet
from tfdet.errors import UserError
from tfdet.weights.torchvision import SOURCE

BACKBONES = {
    "resnet18": ("faster-rcnn-r18", "r18"),
    "resnet50": ("fcos-r50", "r50-3x3"),
    "resnet101": ("retinanet-r101", "r101-3x3"),
    "resnext101_64x4d": ("fcos-test", "x101-64x4d"),
    "mobilenet_v2": ("fcos-mnv2", "mnv2"),
    "swin_t": ("mask-rcnn-swin-t", "swin-t"),
    "swin_s": ("mask-rcnn-swin-s", "swin-s"),
}


def created(network):
    name, style = BACKBONES[network]
    shapes = foreign.shapes("torchvision", network)
    if name == "fcos-test":  # no registered model has this backbone
        model = foreign.unfilled(name, backbone=style, pixels="imagenet")
        return shapes, model, SOURCE.entries(model, shapes)
    return shapes, *foreign.created(SOURCE, name, shapes)


@pytest.mark.parametrize("network", BACKBONES)
def test_every_tensor_has_its_place(network):
    shapes, model, entries = created(network)
    assert SOURCE.recognises(shapes) and SOURCE.backbone_only(shapes)
    assert model.config.backbone == BACKBONES[network][1]
    assert model.config.pixels == "imagenet"
    backbone = model.backbone
    variables = backbone.weights
    if network.startswith("swin"):
        # A classifier has one norm at its end.
        new = SOURCE.new(model, shapes)
        assert len(new) == 6
        variables = [v for v in variables if not any(v is x for x in new)]
    foreign.check_entries(entries, shapes, variables)
    unused = {x.name.rpartition(".")[0] for x in entries if x.variable is None}
    classifiers = {"fc", "head", "classifier.1"}
    assert any(name in classifiers for name in unused)


def test_the_last_convolution_of_a_mobilenet_is_used_where_there_is_one():
    shapes = foreign.shapes("torchvision", "mobilenet_v2")
    model, entries = foreign.created(SOURCE, "mobilenetv2-fpnlite-fcos", shapes)
    foreign.check_entries(entries, shapes, model.backbone.weights)
    used = {x.name for x in entries if x.variable is not None}
    assert "features.18.0.weight" in used


def test_a_cascade_takes_it_into_its_first_detector():
    shapes = foreign.shapes("torchvision", "resnet50")
    found = SOURCE.settings("dy-faster-rcnn-r50", shapes)
    assert found == {"first.backbone": "r50-3x3", "first.pixels": "imagenet"}
    model, entries = foreign.created(SOURCE, "dy-faster-rcnn-r50", shapes)
    foreign.check_entries(entries, shapes, model.first.backbone.weights)


def test_a_model_without_a_choice_of_backbones_is_refused():
    shapes = foreign.shapes("torchvision", "resnet50")
    with pytest.raises(UserError, match="YoloV7 has no backbone"):
        SOURCE.entries(foreign.unfilled("yolov7-test"), shapes)


def test_a_dilated_resnet_keeps_its_dilation():
    shapes = foreign.shapes("torchvision", "resnet50")
    assert SOURCE.settings("detr-r50-dc5", shapes)["backbone"] == "r50-dc5"


def test_a_resnet_with_the_stride_elsewhere_is_refused():
    shapes = foreign.shapes("torchvision", "resnet50")
    model = foreign.unfilled("fcos-r50", pixels="imagenet")
    with pytest.raises(UserError, match="backbone='r50-3x3', this one has backbone='r50'"):
        SOURCE.entries(model, shapes)
    model = foreign.unfilled("fcos-r50", backbone="r50-3x3")
    with pytest.raises(UserError, match="pixels='imagenet', this one has pixels='detectron'"):
        SOURCE.entries(model, shapes)


@pytest.mark.parametrize(
    ("network", "name", "message"),
    [
        (
            "resnet50",
            "fcos-r101",
            "3x4x6x3 blocks, .* backbone is r101, .* or set backbone: r50-3x3$",
        ),
        (
            "resnet34",
            "faster-rcnn-r18",
            "3x4x6x3 blocks, .* backbone is r18, .*; no backbone with a name",
        ),
        ("resnext101_32x8d", "faster-rcnn-x101", "the model's backbone is x101-32x4d"),
        ("resnext101_64x4d", "fcos-x101-dcn", "the model's backbone is x101-dcn"),
        ("resnet50", "mask-rcnn-swin-t", "the model's backbone is swin-t"),
        ("swin_s", "mask-rcnn-swin-t", "for the backbone swin-s, and the model's is swin-t"),
        ("mobilenet_v2", "fcos-r50", "for the backbone mnv2, and the model's is r50"),
        ("resnet50", "yolov7", "yolov7 has no backbone"),
    ],
)
def test_other_models_are_refused(network, name, message):
    with pytest.raises(UserError, match=message):
        SOURCE.settings(name, foreign.shapes("torchvision", network))


def test_resnets_without_a_name_become_encodings():
    shapes = foreign.shapes("torchvision", "resnet34")
    own = resnet.resnet_encoding((3, 4, 6, 3), basic=True, epsilon=0.0)
    model = foreign.unfilled("fcos-test", backbone=own, pixels="imagenet")
    with pytest.raises(UserError, match="epsilon=0"):
        SOURCE.entries(model, shapes)
    own = resnet.resnet_encoding((3, 4, 6, 3), basic=True)
    model = foreign.unfilled("fcos-test", backbone=own, pixels="imagenet")
    foreign.check_entries(SOURCE.entries(model, shapes), shapes, model.backbone.weights)


def test_a_backbone_of_the_users_takes_its_weights(tmp_path):
    shapes = foreign.shapes("torchvision", "mobilenet_v2")
    torch_files.save(foreign.tensors(shapes), tmp_path / "m.pth")
    model = tfdet.create("fcos-nano", backbone="mnv2", weights=str(tmp_path / "m.pth"))
    assert (model.config.backbone, model.config.pixels) == ("mnv2", "imagenet")
    wanted = foreign.value("features.0.0.weight", shapes["features.0.0.weight"])
    kernel = next(v for v in model.backbone.weights if v.shape == (3, 3, 3, 32))
    np.testing.assert_array_equal(kernel.numpy(), wanted.transpose(2, 3, 1, 0))
    with pytest.raises(UserError, match=r"MobileNet|backbone"):
        tfdet.create("fcos-nano", weights=str(tmp_path / "m.pth"))
