"""Names and shapes of the PackDet repository's weights.

The published networks' outputs for weights that are filled by these names are in
`tests/backbones/resnet_test.py`, `tests/backbones/mobilenet_test.py` and
`tests/heads/packed_test.py`; here, the mapping has to be that of those tests.
"""

import numpy as np
import pytest

from tests.backbones import mobilenet_test, resnet_test
from tests.heads import packed_test
from tests.weights import foreign
from tfdet.errors import UserError
from tfdet.weights import packdet
from tfdet.weights.packdet import SOURCE

# Tensors of the published files.
COUNTS = {
    "packdet-r50": 368,
    "packdet-r101": 623,
    "packdet-x101-dcn": 679,
    "packdet-mnv2": 409,
    "fcos-r50": 324,
    "retinanet-r50": 306,
    "retinanet-packop-r50": 365,
}
EXAMPLES = {
    "packdet-r50": {
        "backbone.body.stem.conv1.weight": (64, 3, 7, 7),
        "backbone.body.layer4.0.downsample.1.running_var": (2048,),
        "backbone.fpn.fpn_inner4.weight": (256, 2048, 1, 1),
        "backbone.fpn.top_blocks.p6.weight": (256, 256, 3, 3),
        "rpn.head.mf.mf_s2_1.gn.weight": (256,),
        "rpn.head.mf.mf_s4_1.conv.weight": (256, 256, 3, 3),
        "rpn.head.fe.reduction.conv.weight": (128, 256, 1, 1),
        "rpn.head.fe.conv_blocks.11.gn.bias": (128,),
        "rpn.head.predictor.bbox_tower.1.conv.weight": (128, 128, 3, 3),
        "rpn.head.predictor.centerness.bias": (1,),
        "rpn.head.predictor.scale_layer.scales": (5,),
    },
    "packdet-x101-dcn": {
        "backbone.body.layer3.22.conv2.offset.weight": (27, 1024, 3, 3),
        "backbone.body.layer3.22.conv2.conv.weight": (1024, 16, 3, 3),
        "backbone.body.layer2.3.conv2.weight": (512, 8, 3, 3),
        "rpn.head.predictor.cls_tower.1.conv.offset.bias": (27,),
        "rpn.head.predictor.cls_tower.1.conv.conv.weight": (128, 128, 3, 3),
    },
    "packdet-mnv2": {
        "backbone.body.features.0.1.num_batches_tracked": (),
        "backbone.body.features.1.conv.3.weight": (16, 32, 1, 1),
        "backbone.body.features.17.conv.7.running_mean": (320,),
    },
    "fcos-r50": {
        "rpn.head.cls_tower.9.weight": (256, 256, 3, 3),
        "rpn.head.bbox_tower.10.bias": (256,),
        "rpn.head.scales.4.scale": (1,),
        "rpn.head.cls_logits.weight": (80, 256, 3, 3),
    },
    "retinanet-r50": {
        "backbone.fpn.top_blocks.p6.weight": (256, 2048, 3, 3),
        "rpn.head.cls_tower.6.weight": (256, 256, 3, 3),
        "rpn.head.cls_logits.weight": (720, 256, 3, 3),
        "rpn.anchor_generator.cell_anchors.4": (9, 4),
    },
    "retinanet-packop-r50": {
        "rpn.mf.mf_s3_1.conv.weight": (256, 256, 3, 3),
        "rpn.fe.conv_blocks.0.conv.weight": (128, 128, 3, 3),
        "rpn.head.bbox_tower.2.weight": (128, 128, 3, 3),
        "rpn.anchor_generator.cell_anchors.7": (9, 4),
    },
}


def shapes_of(name):
    return foreign.shapes("packdet", name)


@pytest.mark.parametrize("name", COUNTS)
def test_every_tensor_has_its_place(name):
    shapes = shapes_of(name)
    assert len(shapes) == COUNTS[name]
    assert {key: shapes.get(key) for key in EXAMPLES.get(name, {})} == EXAMPLES.get(name, {})
    assert SOURCE.recognises(shapes) and not SOURCE.backbone_only(shapes)
    model, entries = foreign.created(SOURCE, name, shapes)
    assert model.num_classes == 80
    foreign.check_entries(entries, shapes, model.weights)


def test_names_may_begin_with_the_word_of_parallel_training():
    shapes = {f"module.{name}": shape for name, shape in shapes_of("fcos-r50").items()}
    assert SOURCE.recognises(shapes)
    model, entries = foreign.created(SOURCE, "fcos-r50", shapes)
    foreign.check_entries(entries, shapes, model.weights)


def variables(name):
    model, entries = foreign.created(SOURCE, name, shapes_of(name))
    return model, {x.name: id(x.variable) for x in entries if x.variable is not None}


def test_the_mapping_is_the_one_that_the_golden_numbers_belong_to():
    model, found = variables("packdet-r50")
    expected = resnet_test.published_names(model.backbone)
    expected |= resnet_test.fpn_names(model.neck)
    expected |= packed_test.published_names(model.head)
    assert found == {name: id(variable) for name, variable in expected.items()}
    model, found = variables("packdet-mnv2")
    expected = mobilenet_test.published_names(model.backbone, model.neck)
    expected |= packed_test.published_names(model.head)
    assert found == {name: id(variable) for name, variable in expected.items()}


def test_codes_and_colours_are_in_our_order():
    _, entries = foreign.created(SOURCE, "retinanet-r50", shapes_of("retinanet-r50"))
    by_name = {x.name: x for x in entries}
    bias = by_name["rpn.head.bbox_pred.bias"].convert(np.arange(36.0))
    np.testing.assert_array_equal(bias[:8], [1, 0, 3, 2, 5, 4, 7, 6])
    stem = by_name["backbone.body.stem.conv1.weight"]
    kernel = np.zeros((64, 3, 7, 7))
    kernel[:, 0] = 1  # of blue
    np.testing.assert_array_equal(stem.convert(kernel)[0, 0, :, 0], [0, 0, 1])


@pytest.mark.parametrize(
    ("file", "name", "message"),
    [
        ("packdet-r50", "fcos-r50", "such as packdet-r50, and fcos-r50 is another"),
        ("fcos-r50", "retinanet-r50", "such as fcos-r50"),
        ("retinanet-r50", "retinanet-packop-r50", "such as retinanet-r50"),
        ("packdet-r50", "packdet-r101", "the model's backbone is r101"),
        ("fcos-r50", "yolov7", "such as fcos-r50"),
    ],
)
def test_other_models_are_refused(file, name, message):
    with pytest.raises(UserError, match=message):
        SOURCE.settings(name, shapes_of(file))


def test_torchvisions_backbone_is_refused():
    with pytest.raises(UserError, match="backbone='r50', this one has backbone='r50-3x3'"):
        foreign.created(SOURCE, "fcos-r50", shapes_of("fcos-r50"), backbone="r50-3x3")
    assert not packdet.recognises(foreign.shapes("torchvision", "fcos_resnet50_fpn"))
