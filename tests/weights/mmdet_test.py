"""mmdetection's names, shapes, conventions, and the numbers that its networks give.

mmdetection does not install beside TensorFlow here. `FILES` is written down from its public sources
(version 2.28 and 3.3). `tests/fixtures/weights/mmdet*` were made by running it outside of this
repository: mmdet 3.3.0, mmengine 0.10.7 and mmcv-lite 2.1.0 with torch 2.14.1, `mmcv.ops` replaced
by a module whose `RoIAlign` is `torchvision.ops.roi_align` (0.29.1) and whose other classes are
empty and unused. Each network, of its own configuration in `CONFIGS`, had `foreign.value(name,
shape)` for its tensors of floats, was in the mode `eval`, and saw `foreign.image(size)` through its
own `data_preprocessor`, blue first. Kept are the names and shapes of its `state_dict` and the
`foreign.summary` of raw outputs, rows of all levels joined and put into our order:

- dense: `bbox_head(extract_feat(x))`; RetinaNet's anchors by scale, then ratio, its codes (y, x, h,
  w) times (10, 10, 5, 5); FCOS's distances as logarithms of the first, in strides of the improved;
- two stages: `rpn_head`, and for `boxes(size)` `roi_head._bbox_forward` and `_mask_forward`.

The tests below write out in plain NumPy what mmdetection does otherwise than we do: the order of
anchors, the order of cells that Swin merges, and the colours.
"""

import functools

import keras
import numpy as np
import pytest

from tests.weights import foreign
from tfdet.backbones.swin import PatchMerging
from tfdet.errors import UserError
from tfdet.ops.anchors import anchors
from tfdet.weights import mmdet, mmdet_caffe
from tfdet.weights.mmdet import SOURCE

CAFFE = mmdet_caffe.SOURCE


def layer(name, outputs, inputs, size=1):
    window = (size, size) if size else ()
    return {f"{name}.weight": (outputs, inputs, *window), f"{name}.bias": (outputs,)}


def body(network):
    names = foreign.shapes("torchvision", network)
    return {f"backbone.{k}": v for k, v in names.items() if not k.startswith("fc.")}


def swin(levels=(0, 1, 2, 3)):
    shapes = layer("backbone.patch_embed.projection", 96, 3, 4)
    shapes |= vectors("backbone.patch_embed.norm", 96)
    for stage, depth in enumerate((2, 2, 6, 2)):
        width, prefix = 96 * 2**stage, f"backbone.stages.{stage}"
        for i in range(depth):
            block = f"{prefix}.blocks.{i}"
            shapes |= vectors(f"{block}.norm1", width) | vectors(f"{block}.norm2", width)
            table = f"{block}.attn.w_msa.relative_position"
            shapes |= {f"{table}_bias_table": (169, width // 32), f"{table}_index": (49, 49)}
            shapes |= layer(f"{block}.attn.w_msa.qkv", 3 * width, width, 0)
            shapes |= layer(f"{block}.attn.w_msa.proj", width, width, 0)
            shapes |= layer(f"{block}.ffn.layers.0.0", 4 * width, width, 0)
            shapes |= layer(f"{block}.ffn.layers.1", width, 4 * width, 0)
        if stage < 3:
            shapes |= vectors(f"{prefix}.downsample.norm", 4 * width)
            shapes[f"{prefix}.downsample.reduction.weight"] = (2 * width, 4 * width)
    for stage in levels:
        shapes |= vectors(f"backbone.norm{stage}", 96 * 2**stage)
    return shapes


def vectors(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def fpn(widths, coarse=()):
    shapes = {}
    for i, width in enumerate(widths):
        shapes |= layer(f"neck.lateral_convs.{i}.conv", 256, width)
        shapes |= layer(f"neck.fpn_convs.{i}.conv", 256, 256, 3)
    for i, width in enumerate(coarse, start=len(widths)):
        shapes |= layer(f"neck.fpn_convs.{i}.conv", 256, width, 3)
    return shapes


def fcos(named="conv_{}", biases=False):
    shapes = {}
    for tower in ("cls", "reg"):
        for i in range(4):
            prefix = f"bbox_head.{tower}_convs.{i}"
            shapes |= layer(f"{prefix}.conv", 256, 256, 3) | vectors(f"{prefix}.gn", 256)
            if not biases:
                del shapes[f"{prefix}.conv.bias"]
    for part, outputs in (("cls", 80), ("reg", 4), ("centerness", 1)):
        shapes |= layer(f"bbox_head.{named.format(part)}", outputs, 256, 3)
    return shapes | {f"bbox_head.scales.{i}.scale": () for i in range(5)}


def retinanet():
    shapes = {}
    for tower in ("cls", "reg"):
        for i in range(4):
            shapes |= layer(f"bbox_head.{tower}_convs.{i}.conv", 256, 256, 3)
    shapes |= layer("bbox_head.retina_cls", 720, 256, 3)
    return shapes | layer("bbox_head.retina_reg", 36, 256, 3)


def two_stage(masks):
    shapes = layer("rpn_head.rpn_conv", 256, 256, 3)
    shapes |= layer("rpn_head.rpn_cls", 3, 256) | layer("rpn_head.rpn_reg", 12, 256)
    head = "roi_head.bbox_head"
    shapes |= layer(f"{head}.shared_fcs.0", 1024, 256 * 49, 0)
    shapes |= layer(f"{head}.shared_fcs.1", 1024, 1024, 0)
    shapes |= layer(f"{head}.fc_cls", 81, 1024, 0) | layer(f"{head}.fc_reg", 320, 1024, 0)
    if masks:
        head = "roi_head.mask_head"
        for i in range(4):
            shapes |= layer(f"{head}.convs.{i}.conv", 256, 256, 3)
        shapes |= layer(f"{head}.upsample", 256, 256, 2) | layer(f"{head}.conv_logits", 80, 256)
    return shapes


R50, SWIN = (256, 512, 1024, 2048), (96, 192, 384, 768)
FILES = {
    "fcos": body("resnet50") | fpn(R50[1:], (256, 256)) | fcos(),
    "fcos-101": body("resnet101") | fpn(R50[1:], (256, 256)) | fcos(),
    "fcos-biases": body("resnet50") | fpn(R50[1:], (256, 256)) | fcos("fcos_{}", True),
    "retinanet": body("resnet50") | fpn(R50[1:], (2048, 256)) | retinanet(),
    "faster": body("resnet50") | fpn(R50) | two_stage(False),
    "mask": body("resnet50") | fpn(R50) | two_stage(True),
    "mask-swin": swin() | fpn(SWIN) | two_stage(True),
}
MODELS = {
    "fcos": "fcos-r50",
    "fcos-101": "fcos-r101",
    "fcos-biases": "fcos-r50",
    "retinanet": "retinanet-r50",
    "faster": "faster-rcnn-r50",
    "mask": "mask-rcnn-r50",
    "mask-swin": "mask-rcnn-swin-t",
}


@pytest.mark.parametrize("source", [SOURCE, CAFFE], ids=["pytorch", "caffe"])
@pytest.mark.parametrize("file", FILES)
def test_every_tensor_has_its_place(file, source):
    shapes = FILES[file]
    if file == "mask-swin" and source is CAFFE:
        assert not source.recognises(shapes)  # no ResNet, no style
        return
    assert source.recognises(shapes) and not source.backbone_only(shapes)
    model, entries = foreign.created(source, MODELS[file], shapes)
    assert model.num_classes == 80
    foreign.check_entries(entries, shapes, model.weights)
    assert source.new(model, shapes) == []
    expected = {"fcos": "detectron"} if source is CAFFE else {}
    assert model.config.pixels == expected.get(file.replace("-101", ""), "imagenet")
    if file != "mask-swin":
        depth = "r101" if file == "fcos-101" else "r50"
        assert model.config.backbone == f"{depth}-{'caffe' if source is CAFFE else '3x3'}"


# (configuration, style, model).
CONFIGS = {
    "retinanet": ("retinanet_r50_fpn_1x_coco", SOURCE, "retinanet-r50"),
    "fcos": ("fcos_r50-caffe_fpn_gn-head_1x_coco", CAFFE, "fcos-r50"),
    "fcos-improved": (
        "fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco",
        *(CAFFE, "fcos-r50"),
    ),
    "faster": ("faster-rcnn_r50_fpn_1x_coco", SOURCE, "faster-rcnn-r50"),
    "mask-caffe": ("mask-rcnn_r50-caffe_fpn_1x_coco", CAFFE, "mask-rcnn-r50"),
    "mask-swin": ("mask-rcnn_swin-t-p4-w7_fpn_1x_coco", SOURCE, "mask-rcnn-swin-t"),
}
SIZES = [(64, 96), (160, 128)]


def boxes(size):
    """Regions of all sides, some outside of the image, [1, 40, 4]."""
    random = np.random.RandomState(1)
    middles = random.uniform(0, 1, (40, 2)) * size[::-1]
    sides = np.exp(random.uniform(np.log(2), np.log(300), (40, 2)))
    return np.concatenate([middles - sides / 2, middles + sides / 2], -1).astype("float32")[None]


def raw_outputs(model, size):
    if not hasattr(model, "rpn"):
        raw = dict(model(foreign.image(size), training=False))
        if not getattr(model.config, "normalize_distances", True):
            raw["box_distances"] = np.log(raw["box_distances"])
        return raw
    maps = model.pyramid(foreign.image(size))
    raw = model.rpn(maps)
    maps = {name: maps[name] for name in ("P2", "P3", "P4", "P5")}
    raw |= {name: x[0] for name, x in model.regions(maps, boxes(size)).items()}
    if hasattr(model, "mask_head"):
        raw["mask_logits"] = model.mask_head(model.mask_align(maps, boxes(size)))[0]
    return raw


@pytest.mark.parametrize("network", CONFIGS)
def test_raw_outputs_are_those_of_mmdetection(network):
    _, source, name = CONFIGS[network]
    tensors = foreign.tensors(foreign.shapes("mmdet", network))
    model = foreign.filled(source, name, tensors)
    differences = {}
    for size in SIZES:
        raw, start = raw_outputs(model, size), f"{network}/{size[0]}x{size[1]}/"
        for key, expected in foreign.outputs("mmdet").items():
            if key.startswith(start):
                found = foreign.summary(raw[key.removeprefix(start)])
                differences[key] = foreign.summaries_differ(found, expected)
    print(network, {key: f"{x:.1e}" for key, x in differences.items()})
    assert len(differences) == {"r": 4, "f": 6, "m": 10}[network[0]] + 2 * (network == "faster")
    assert max(differences.values()) < 1e-4, differences


@pytest.mark.parametrize("network", sorted(FILES.keys() & CONFIGS.keys()))
def test_the_names_written_down_are_the_live_ones(network):
    live = foreign.shapes("mmdet", network)
    counters = {name for name in live if name.endswith("num_batches_tracked")}
    assert {**FILES[network], **dict.fromkeys(counters, ())} == live


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        (body("resnet50") | layer("head.fc", 1000, 2048, 0), "fcos-r50"),
        (swin((3,)) | layer("head.fc", 1000, 768, 0), "mask-rcnn-swin-t"),
    ],
)
def test_classifiers_are_backbones(shapes, name):
    assert SOURCE.recognises(shapes) and SOURCE.backbone_only(shapes)
    model, entries = foreign.created(SOURCE, name, shapes)
    new = {id(v) for v in SOURCE.new(model, shapes)}
    assert len(new) == (6 if "swin" in name else 0)
    variables = [v for v in model.backbone.weights if id(v) not in new]
    foreign.check_entries(entries, shapes, variables)


def test_both_styles_recognise_a_resnet_so_that_nobody_takes_it_for_the_other():
    shapes = FILES["faster"]
    assert SOURCE.recognises(shapes) and CAFFE.recognises(shapes)
    model = foreign.unfilled("faster-rcnn-r50", **SOURCE.settings("faster-rcnn-r50", shapes))
    with pytest.raises(UserError, match="backbone='r50-caffe', this one has backbone='r50-3x3'"):
        CAFFE.entries(model, shapes)
    grouped = {**shapes, "backbone.layer1.0.conv2.weight": (256, 4, 3, 3)}
    assert SOURCE.recognises(grouped) and not CAFFE.recognises(grouped)


@functools.cache
def converters(file, source=SOURCE):
    model, entries = foreign.created(source, MODELS[file], FILES[file])
    return model, {x.name: x for x in entries if x.variable is not None}


def test_anchors_and_their_outputs_are_in_one_order():
    model, by_name = converters("retinanet")
    # Theirs, of the first cell: by ratio (height / width), then scale.
    theirs = []
    for ratio in (0.5, 1.0, 2.0):
        for scale in range(3):
            side = 4 * 8 * 2 ** (scale / 3)
            width, height = side / ratio**0.5, side * ratio**0.5
            theirs.append([-width / 2, -height / 2, width / 2, height / 2])
    ours = anchors(model.config.anchors, (64, 64))[:9]
    bias = by_name["bbox_head.retina_cls.bias"].convert(np.arange(720.0)).reshape(9, 80)
    for row, box in zip(bias, ours, strict=True):
        anchor, label = divmod(row, 80)
        assert set(anchor) == {anchor[0]}
        np.testing.assert_array_equal(label, range(80))
        np.testing.assert_allclose(box, theirs[int(anchor[0])], rtol=1e-6)
    codes = by_name["bbox_head.retina_reg.bias"].convert(np.arange(36.0)).reshape(9, 4)
    # The second anchor of ours is the second ratio's first, the fourth of theirs.
    np.testing.assert_array_equal(codes[1], [10 * 13, 10 * 12, 5 * 15, 5 * 14])


def test_the_background_stays_last_and_codes_are_turned():
    _, by_name = converters("faster")
    bias = by_name["roi_head.bbox_head.fc_reg.bias"].convert(np.arange(320.0))
    np.testing.assert_array_equal(bias[:8], [1, 0, 3, 2, 5, 4, 7, 6])
    assert by_name["roi_head.bbox_head.fc_cls.bias"].convert is None


def test_merged_cells_are_put_into_our_order():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 4, 6, 5)).astype(np.float32)
    norm = rng.uniform(0.5, 1.5, (2, 20)).astype(np.float32)
    weight = rng.normal(size=(10, 20)).astype(np.float32)
    merge = PatchMerging()
    merge(x)
    merge.norm.gamma.assign(mmdet._corners(norm[0]))
    merge.norm.beta.assign(mmdet._corners(norm[1]))
    merge.reduce.kernel.assign(mmdet._corners(weight).T)
    # Theirs: of each channel the four cells, row by row.
    cells = x.reshape(1, 2, 2, 3, 2, 5).transpose(0, 1, 3, 5, 2, 4).reshape(1, 2, 3, 20)
    mean, variance = cells.mean(-1, keepdims=True), cells.var(-1, keepdims=True)
    expected = ((cells - mean) / np.sqrt(variance + 1e-5) * norm[0] + norm[1]) @ weight.T
    np.testing.assert_allclose(merge(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("file", "means"),
    [("fcos", (102.9801, 115.9465, 122.7717)), ("faster", (103.53, 116.28, 123.675))],
)
def test_caffes_first_convolution_sees_blue_green_red(file, means):
    model, by_name = converters(file, CAFFE)
    kernel = foreign.value("conv1", (64, 3, 7, 7))
    images = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3)).astype("float32")
    x = np.pad(images[..., ::-1] - np.float32(means), ((0, 0), (3, 3), (3, 3), (0, 0)))
    expected = np.tensordot(x[0, 0:7, 10:17], kernel.transpose(2, 3, 1, 0), 3)
    stem = keras.layers.Conv2D(64, 7, strides=2, use_bias=False)
    stem.build((None, None, None, 3))
    stem.kernel.assign(by_name["backbone.conv1.weight"].convert(kernel))
    x = np.pad(model.normalization(images), ((0, 0), (3, 3), (3, 3), (0, 0)))
    np.testing.assert_allclose(np.asarray(stem(x))[0, 0, 5], expected, rtol=1e-3, atol=1e-2)


def test_conventions_are_keys():
    found = SOURCE.settings("retinanet-r50", FILES["retinanet"])
    assert (found["coarse_relu"], found["coarse_from"]) == (False, "backbone")
    assert SOURCE.settings("fcos-r50", FILES["fcos"])["point_style"] == "mmdet"
    found = SOURCE.settings("mask-rcnn-r50", FILES["mask"])
    assert (found["roi_align"], found["sampling_ratio"]) == ("aligned", 0)


@pytest.mark.parametrize(
    ("file", "name", "message"),
    [
        ("fcos", "retinanet-r50", "for a FCOS of mmdetection.*choose fcos-r50"),
        ("mask-swin", "mask-rcnn-swin-s", "backbone swin-t, and the model's is swin-s"),
        ("mask-swin", "mask-rcnn-r50", "backbone swin-t, and the model's is r50-3x3"),
        ("mask", "mask-rcnn-swin-t", "the model's backbone is swin-t"),
        ("faster", "faster-rcnn-r101", "the model's backbone is r101-3x3"),
    ],
)
def test_other_models_are_refused(file, name, message):
    with pytest.raises(UserError, match=message):
        SOURCE.settings(name, FILES[file])
