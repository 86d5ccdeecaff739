"""EfficientDets of effdet: names, and the same numbers as the package gives."""

import keras
import numpy as np
import pytest

from tests.backbones.efficientnet_test import LAYOUTS
from tests.weights import filled, foreign
from tfdet import registry
from tfdet.errors import UserError
from tfdet.ops.letterbox import letterbox
from tfdet.weights.effdet import SOURCE
from tfdet.weights.efficientdet import PAIRS

# Width of the feature network, its cells, convolutions in the heads, levels; tensors in the file.
MODELS = {
    "d0": ("b0", 64, 3, 3, 5, 784),
    "d6": ("b6", 384, 8, 5, 5, 1818),
    "d7x": ("b7", 384, 8, 5, 6, 2210),
    "lite0": ("lite0", 64, 3, 3, 5, 696),
}
# Expansion and kernel size of the stages.
STAGES = ((1, 3), (6, 3), (6, 5), (6, 3), (6, 5), (6, 5), (6, 3))
# Of each node of a cell, its inputs, for P3 to P7 and P3 to P8.
INPUTS = {
    5: ((3, 4), (2, 5), (1, 6), (0, 7), (1, 7, 8), (2, 6, 9), (3, 5, 10), (4, 11)),
    6: (
        *((4, 5), (3, 6), (2, 7), (1, 8), (0, 9)),
        *((1, 9, 10), (2, 8, 11), (3, 7, 12), (4, 6, 13), (5, 14)),
    ),
}


def shapes_of(name: str, classes: int = 90) -> dict[str, tuple[int, ...]]:
    """The file of a model."""
    scale, width, cells, repeats, levels, _ = MODELS[name]
    is_weighted = name in ("d0", "d1", "d2", "d3", "d4", "d5")
    shapes = backbone("backbone.", scale)
    p5 = LAYOUTS[scale][0][-1]
    channels = [LAYOUTS[scale][0][i] for i in (3, 5, 7)]
    shapes |= lateral("fpn.resample.3.conv", p5, width)
    for cell in range(cells):
        for node, inputs in enumerate(INPUTS[levels]):
            prefix = f"fpn.cell.{cell}.fnode.{node}"
            if is_weighted:
                shapes[f"{prefix}.combine.edge_weights"] = (len(inputs),)
            for i in inputs:
                if cell == 0 and i < 3:
                    shapes |= lateral(f"{prefix}.combine.resample.{i}.conv", channels[i], width)
            shapes |= separable(f"{prefix}.after_combine.conv", width, width)
            shapes |= batch_norm(f"{prefix}.after_combine.conv.bn", width)
    for tower, outputs in (("class_net", 9 * classes), ("box_net", 36)):
        for i in range(repeats):
            shapes |= separable(f"{tower}.conv_rep.{i}", width, width)
            for level in range(levels):
                shapes |= batch_norm(f"{tower}.bn_rep.{i}.{level}.bn", width)
        shapes |= separable(f"{tower}.predict", width, outputs)
    return shapes


def backbone(prefix: str, scale: str) -> dict[str, tuple[int, ...]]:
    """timm's names of an EfficientNet without its head."""
    (stem, *widths), repeats, _ = LAYOUTS[scale]
    shapes = {f"{prefix}conv_stem.weight": (stem, 3, 3, 3), **batch_norm(f"{prefix}bn1", stem)}
    before = stem
    for stage, (width, count, (expand, size)) in enumerate(
        zip(widths, repeats, STAGES, strict=True)
    ):
        for index in range(count):
            place, inner = f"{prefix}blocks.{stage}.{index}.", before * expand
            last = 2 if expand == 1 else 3
            if expand > 1:
                shapes |= {f"{place}conv_pw.weight": (inner, before, 1, 1)}
                shapes |= batch_norm(f"{place}bn1", inner)
            shapes |= {f"{place}conv_dw.weight": (inner, 1, size, size)}
            shapes |= batch_norm(f"{place}bn{last - 1}", inner)
            if not scale.startswith("lite"):
                squeezed = before // 4
                shapes |= conv(f"{place}se.conv_reduce", inner, squeezed)
                shapes |= conv(f"{place}se.conv_expand", squeezed, inner)
            project = "conv_pw" if expand == 1 else "conv_pwl"
            shapes |= {f"{place}{project}.weight": (width, inner, 1, 1)}
            shapes |= batch_norm(f"{place}bn{last}", width)
            before = width
    return shapes


def conv(prefix: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (outputs, inputs, 1, 1), f"{prefix}.bias": (outputs,)}


def separable(prefix: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    depthwise = {f"{prefix}.conv_dw.weight": (inputs, 1, 3, 3)}
    return {**depthwise, **conv(f"{prefix}.conv_pw", inputs, outputs)}


def lateral(prefix: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {**conv(f"{prefix}.conv", inputs, outputs), **batch_norm(f"{prefix}.bn", outputs)}


def batch_norm(prefix: str, channels: int) -> dict[str, tuple[int, ...]]:
    names = ("weight", "bias", "running_mean", "running_var")
    shapes = {f"{prefix}.{name}": (channels,) for name in names}
    return {**shapes, f"{prefix}.num_batches_tracked": ()}


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_has_its_place_and_every_variable_its_tensor(name):
    shapes = shapes_of(name)
    assert len(shapes) == MODELS[name][-1]
    assert SOURCE.recognises(shapes) and not SOURCE.backbone_only(shapes)
    settings = SOURCE.settings(f"efficientdet-{name}", shapes)
    config = registry.config(f"efficientdet-{name}", **settings)
    assert (config.num_classes, config.aspect_ratios) == (90, PAIRS)
    with keras.StatelessScope(initialize_variables=False):
        model = registry.detector_class(f"efficientdet-{name}").from_record(config, name)
        model.build_variables()
    entries = SOURCE.entries(model, shapes)
    assert {entry.name: tuple(entry.shape) for entry in entries} == shapes
    found = sorted(entry.variable.path for entry in entries if entry.variable is not None)
    assert found == sorted(variable.path for variable in model.weights)
    unused = {entry.name for entry in entries if entry.variable is None}
    assert unused == {name for name in shapes if name.endswith("num_batches_tracked")}
    assert {entry.name for entry in entries if entry.per_class} == {
        "class_net.predict.conv_pw.weight",
        "class_net.predict.conv_pw.bias",
    }


def test_values_go_where_their_names_say():
    model = registry.create("efficientdet-d0", image_size=(64, 64))
    values = filled.arrays(shapes_of("d0"))
    filled.assert_filled_once(filled.take(model, SOURCE, values), model.weights)
    node = model.neck.cells[0].fnodes[4]
    edges = values["fpn.cell.0.fnode.4.combine.edge_weights"]
    np.testing.assert_array_equal([w.numpy() for w in node.fusion.fusion_weights], edges)
    lateral = values["fpn.cell.0.fnode.4.combine.resample.1.conv.conv.weight"]
    np.testing.assert_array_equal(node.resamples[0].conv.kernel[0, 0], lateral[:, :, 0, 0].T)
    depthwise = values["class_net.conv_rep.1.conv_dw.weight"]
    kernel = model.class_net.convs[1].depthwise_kernel[..., 0]
    np.testing.assert_array_equal(kernel, depthwise[:, 0].transpose(1, 2, 0))
    gate = values["backbone.blocks.3.1.se.conv_reduce.weight"]
    block = model.backbone.blocks[6]
    np.testing.assert_array_equal(block.se.reduce.kernel[0, 0], gate[:, :, 0, 0].T)


def test_a_file_of_a_training_has_a_prefix_and_anchors():
    shapes = {f"model.{name}": shape for name, shape in shapes_of("d0").items()}
    shapes["anchors.boxes"] = (49104, 4)
    assert SOURCE.recognises(shapes)
    model = registry.create("efficientdet-d0", image_size=(64, 64), num_classes=90)
    entries = SOURCE.entries(model, shapes)
    assert {entry.name: tuple(entry.shape) for entry in entries} == shapes


def test_other_classes_keep_their_place():
    shapes = shapes_of("d0", classes=3)
    assert SOURCE.settings("efficientdet-d0", shapes)["num_classes"] == 3
    model = registry.create("efficientdet-d0", image_size=(64, 64), num_classes=5)
    differing = {e.name for e in SOURCE.entries(model, shapes) if tuple(e.shape) != shapes[e.name]}
    assert differing == {"class_net.predict.conv_pw.weight", "class_net.predict.conv_pw.bias"}


def test_other_functions_are_refused():
    shapes = shapes_of("d0")
    with pytest.raises(UserError, match="which efficientdet-d1 is not; use efficientdet-d0"):
        SOURCE.settings("efficientdet-d1", shapes)
    with pytest.raises(UserError, match="which fcos-r50 is not; use efficientdet-d0"):
        SOURCE.settings("fcos-r50", shapes)
    with pytest.raises(UserError, match="use efficientdet-d6 or efficientdet-d7"):
        SOURCE.settings("efficientdet-d0", shapes_of("d6"))
    symmetric = {
        name: shape
        for name, shape in shapes.items()
        if not (name.endswith("conv_pw.bias") and "predict" not in name)
    }
    with pytest.raises(UserError, match="without 'tf_' in its name"):
        SOURCE.settings("efficientdet-d0", symmetric)
    with pytest.raises(UserError, match="the model is a FCOS; use efficientdet-d0"):
        SOURCE.entries(registry.create("fcos-test"), shapes)
    for changes, says in (
        ({"activation": "hswish"}, "for activation='swish', the model has 'hswish'"),
        ({"fpn_pool_first": True}, "for fpn_pool_first=False, the model has True"),
        ({"fpn_fusion": "softmax"}, "for fpn_fusion='fast', the model has 'softmax'"),
        ({"head_repeats": 2}, "and 2 convolutions in its heads; use efficientdet-d0"),
        ({"num_scales": 2}, "for 9 anchors per cell .* has 6"),
    ):
        config = registry.config("efficientdet-d0", **changes)
        with keras.StatelessScope(initialize_variables=False):
            model = registry.detector_class("efficientdet-d0").from_record(config, "d0")
            with pytest.raises(UserError, match=says):
                SOURCE.entries(model, shapes)


def theirs_and_ours(name: str, size: tuple[int, int], **changes):
    """The package's model of seeded weights, ours with the same, and the checkpoint."""
    torch, effdet = pytest.importorskip("torch"), pytest.importorskip("effdet")
    config = effdet.get_efficientdet_config(f"tf_efficientdet_{name}")
    config.image_size = size
    theirs = effdet.EfficientDet(config, pretrained_backbone=False)
    shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    values = filled.arrays(shapes)
    theirs.load_state_dict({key: torch.tensor(value) for key, value in values.items()})
    values = settled(theirs, size)
    model_name = f"efficientdet-{name}"
    settings = SOURCE.settings(model_name, shapes)
    ours = registry.create(model_name, image_size=size, **settings, **changes)
    filled.take(ours, SOURCE, values)
    return theirs, ours, shapes


def settled(theirs, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Gives each batch norm statistics near those of what it sees; returns all values.

    With others a deep network forgets its image, or makes numbers of any size of it.
    """
    import torch

    random = torch.Generator().manual_seed(0)

    def watch(norm, inputs) -> None:
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        shift, factor = torch.rand((2, *mean.shape), generator=random)
        norm.running_mean.copy_(mean + (shift - 0.5) / 2 * variance.sqrt())
        norm.running_var.copy_(variance.clamp(min=variance.mean() / 4) * (0.7 + 0.6 * factor))

    norms = [x for x in theirs.modules() if isinstance(x, torch.nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(watch) for norm in norms]
    with torch.no_grad():
        theirs.eval()(channels_first(filled.images(4, size, seed=1) / 64 - 2))
        # Calm enough for scores between 0 and 1 and boxes within images.
        for name in ("class_net", "box_net") if hasattr(theirs, "class_net") else ():
            getattr(theirs, name).predict.conv_pw.weight *= 0.5
    for hook in hooks:
        hook.remove()
    return {key: value.numpy().copy() for key, value in theirs.state_dict().items()}


def channels_first(images: np.ndarray):
    import torch

    return torch.tensor(np.asarray(images)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture
def float64():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


def difference(name: str, size: tuple[int, int], precision: str) -> float:
    """The largest relative difference of the raw outputs on a random image."""
    theirs, ours, shapes = theirs_and_ours(name, size)
    import torch

    assert name not in MODELS or shapes == shapes_of(name)
    images = filled.images(1, size)
    x = np.asarray(ours.normalization(images))
    found = ours.predictions(ours.backbone(x), image_size=size)
    with torch.no_grad():
        theirs = theirs.to(getattr(torch, precision))
        classes, boxes = theirs(channels_first(x))
    worst = 0.0
    for key, maps, last in (("class_logits", classes, 90), ("box_codes", boxes, 4)):
        rows = [y.permute(0, 2, 3, 1).reshape(1, -1, last).numpy() for y in maps]
        assert precision in str(found[key].dtype)
        assert np.std(found[key], axis=1).mean() > 0.1  # the image matters
        worst = max(worst, foreign.difference(found[key], np.concatenate(rows, axis=1)))
    print(f"{name} {size} {precision}: {worst:.1e}")
    return worst


@pytest.mark.parity
@pytest.mark.parametrize("size", [(128, 256), (200, 136)])
@pytest.mark.parametrize(
    # The deeper ones differ by up to 4e-4, by rounding alone: in float64 by 4e-13, see below.
    ("name", "tolerance"),
    [("d0", 1e-4), ("d3", 1e-3), ("lite0", 1e-4), ("lite2", 1e-3)],
)
def test_raw_outputs_are_those_of_the_package(name, tolerance, size):
    assert difference(name, size, "float32") < tolerance


@pytest.mark.parity
@pytest.mark.parametrize("name", ["d0", "d3", "lite2"])
def test_what_is_left_is_rounding(float64, name):
    assert difference(name, (200, 136), "float64") < 1e-10


@pytest.mark.parity
def test_boxes_on_photographs_are_those_of_the_package(coco_tiny):
    """With hard NMS after clipping, as the package has it; its clipping is to the canvas here."""
    nms = {"method": "hard", "iou_threshold": 0.5, "max_candidates": 5000, "clips_first": True}
    theirs, ours, _ = theirs_and_ours("d0", (512, 512), nms=nms)
    import effdet
    import tensorflow as tf
    import torch

    bench = effdet.DetBenchPredict(theirs)
    info = {"img_scale": torch.ones(1), "img_size": torch.tensor([[512.0, 512.0]])}
    for path in sorted((coco_tiny / "val2017").glob("*.jpg"))[:3]:
        image = tf.io.decode_jpeg(tf.io.read_file(str(path)), channels=3)[None]
        canvas, _ = letterbox(image, (512, 512), ours.pad_value)
        found = {key: value.numpy()[0] for key, value in ours.detect_fitted(canvas).items()}
        with torch.no_grad():
            rows = bench(channels_first(ours.normalization(canvas)), info)[0].numpy()
        assert found["count"] == len(rows) == 100
        assert found["scores"].std() > 1e-3
        np.testing.assert_allclose(found["scores"], rows[:, 4], atol=1e-3)
        for i in range(100):
            # Scores that are equal to the last digits may change places.
            near = np.abs(rows[:, 4] - found["scores"][i]) < 1e-3
            near &= rows[:, 5] - 1 == found["labels"][i]
            distances = np.abs(rows[near, :4] - found["boxes"][i]).max(axis=-1)
            assert distances.size and distances.min() < 0.5, (path.name, i)
