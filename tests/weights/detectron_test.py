"""Detectron's backbones: names, shapes, and the order of colours."""

import keras
import numpy as np
import pytest

from tests.weights import foreign
from tfdet import registry
from tfdet.errors import UserError
from tfdet.weights.detectron import SOURCE

_PARTS = {
    "conv1": ("branch2a", "w"),
    "conv2": ("branch2b", "w"),
    "conv3": ("branch2c", "w"),
    "bn1": ("branch2a_bn", None),
    "bn2": ("branch2b_bn", None),
    "bn3": ("branch2c_bn", None),
    "downsample.0": ("branch1", "w"),
    "downsample.1": ("branch1_bn", None),
}


def blobs(network):
    """{name: shape} of a .pkl file, from torchvision's names of the same network."""
    shapes = {"fc1000_w": (1000, 2048), "fc1000_b": (1000,)}
    for name, shape in foreign.shapes("torchvision", network).items():
        stem, _, end = name.rpartition(".")
        if end not in ("weight", "bias") or stem == "fc":
            continue
        kind = {"weight": "s", "bias": "b"}[end]
        if stem in ("conv1", "bn1"):
            shapes["conv1_w" if stem == "conv1" else f"res_conv1_bn_{kind}"] = shape
            continue
        layer, block, part = stem.split(".", 2)
        branch, is_kernel = _PARTS[part]
        shapes[f"res{int(layer[5:]) + 1}_{block}_{branch}_{is_kernel or kind}"] = shape
    return shapes


@pytest.mark.parametrize(
    ("network", "name", "style"),
    [
        ("resnet50", "fcos-r50", "r50"),
        ("resnet101", "retinanet-r101", "r101"),
        ("resnet50", "faster-rcnn-r50", "r50"),
    ],
)
def test_every_blob_has_its_place(network, name, style):
    shapes = blobs(network)
    assert {"conv1_w", "res_conv1_bn_s", "res2_0_branch1_bn_b", "res5_2_branch2c_w"} <= set(shapes)
    assert SOURCE.recognises(shapes) and SOURCE.backbone_only(shapes)
    model, entries = foreign.created(SOURCE, name, shapes)
    assert (model.config.backbone, model.config.pixels) == (style, "detectron")
    foreign.check_entries(entries, shapes, model.backbone.weights)
    assert {x.name for x in entries if x.variable is None} == {"fc1000_w", "fc1000_b"}


def test_groups_mean_the_stride_in_the_middle():
    shapes = blobs("resnext101_64x4d")
    model = foreign.unfilled("fcos-test", backbone="x101", pixels="detectron")
    foreign.check_entries(SOURCE.entries(model, shapes), shapes, model.backbone.weights)


def test_batch_norms_are_factors_and_shifts_and_colours_are_turned_round():
    tensors = foreign.tensors(blobs("resnet50"))
    images = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3)).astype("float32")
    keras.utils.set_random_seed(0)
    model = foreign.filled(SOURCE, "fcos-r50", tensors, image_size=(64, 64))
    body = model.backbone
    found = np.asarray(body.stem_bn(body.stem_conv(model.normalization(images))))
    x = images[..., ::-1] - [102.9801, 115.9465, 122.7717]
    kernel = tensors["conv1_w"].transpose(2, 3, 1, 0)
    x = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
    window = x[0, 20:27, 30:37]
    expected = np.tensordot(window, kernel, 3) * tensors["res_conv1_bn_s"]
    expected += tensors["res_conv1_bn_b"]
    np.testing.assert_allclose(found[0, 10, 15], expected, rtol=1e-4, atol=1e-3)


def test_torchvisions_form_of_the_network_is_refused():
    shapes = blobs("resnet50")
    model = registry.create("faster-rcnn-r50", image_size=(64, 64), pixels="detectron")
    with pytest.raises(UserError, match="backbone='r50', this one has backbone='r50-3x3'"):
        SOURCE.entries(model, shapes)
    with pytest.raises(UserError, match="the model's backbone is mnv2"):
        SOURCE.settings("fcos-mnv2", shapes)
