"""TensorFlow checkpoints of google/automl: names, and the numbers that its network gives.

The names, shapes and outputs in `tests/fixtures/weights/automl*` come from google/automl itself
(commit 6a54c87), which is not part of this repository: `efficientdet_arch.efficientdet`, its graph
of TensorFlow 1, was run in TensorFlow 2.21 with `tf_keras` 2.21 (`TF_USE_LEGACY_KERAS=1`,
`disable_v2_behavior`) for `efficientdet-d0` and `efficientdet-lite0` with `is_training_bn=False`,
`strategy=None` and the two sizes as `image_size`. Each of `tf.global_variables()` had `value(name,
shape, gain)`; the network saw `foreign.image(size)` less the `mean_rgb` over the `stddev_rgb` of
its configuration. Kept are the `foreign.summary` of the class and box outputs of each level.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.backbones.efficientnet_test import LAYOUTS
from tests.weights import filled, foreign
from tfdet import registry
from tfdet.errors import UserError
from tfdet.weights.automl import SOURCE
from tfdet.weights.loading import create

# Variables of the published networks.
TOTALS = {"d0": 709, "d7x": 1902, "lite0": 588, "d4": 1354}
BN = ("gamma", "beta", "moving_mean", "moving_variance")
SIZES = [(128, 192), (192, 128)]
AVERAGE = "/ExponentialMovingAverage"
# A few names and shapes of D0's.
SPOTS = {
    "efficientnet-b0/stem/conv2d/kernel": (3, 3, 3, 32),
    "efficientnet-b0/stem/tpu_batch_normalization/moving_variance": (32,),
    "efficientnet-b0/blocks_0/depthwise_conv2d/depthwise_kernel": (3, 3, 32, 1),
    "efficientnet-b0/blocks_0/se/conv2d_1/kernel": (1, 1, 8, 32),
    "efficientnet-b0/blocks_0/conv2d/kernel": (1, 1, 32, 16),
    "efficientnet-b0/blocks_0/tpu_batch_normalization_1/beta": (16,),
    "efficientnet-b0/blocks_3/conv2d/kernel": (1, 1, 24, 144),
    "efficientnet-b0/blocks_3/conv2d_1/kernel": (1, 1, 144, 40),
    "efficientnet-b0/blocks_3/tpu_batch_normalization_1/gamma": (144,),
    "efficientnet-b0/blocks_15/tpu_batch_normalization_2/gamma": (320,),
    "resample_p6/conv2d/kernel": (1, 1, 320, 64),
    "resample_p6/bn/gamma": (64,),
    "fpn_cells/cell_0/fnode4/WSM_2": (),
    "fpn_cells/cell_0/fnode1/resample_0_2_6/conv2d/kernel": (1, 1, 320, 64),
    "fpn_cells/cell_0/fnode2/resample_0_1_7/bn/beta": (64,),
    "fpn_cells/cell_0/fnode3/resample_0_0_8/conv2d/bias": (64,),
    "fpn_cells/cell_0/fnode4/resample_0_1_9/conv2d/kernel": (1, 1, 112, 64),
    "fpn_cells/cell_0/fnode5/resample_0_2_10/conv2d/kernel": (1, 1, 320, 64),
    "fpn_cells/cell_2/fnode7/op_after_combine12/conv/depthwise_kernel": (3, 3, 64, 1),
    "fpn_cells/cell_2/fnode0/op_after_combine5/conv/pointwise_kernel": (1, 1, 64, 64),
    "fpn_cells/cell_1/fnode0/op_after_combine5/bn/moving_mean": (64,),
    "class_net/class-2/pointwise_kernel": (1, 1, 64, 64),
    "class_net/class-0-bn-7/gamma": (64,),
    "class_net/class-predict/bias": (810,),
    "box_net/box-1-bn-3/moving_mean": (64,),
    "box_net/box-predict/pointwise_kernel": (1, 1, 64, 36),
}


# What the scales of a network are multiplied by. Swish and the gates make numbers smaller. Of lite0
# with 1.15, where many ReLU6 are full, 1e-7 of the pixels alone changes outputs by 2e-4.
GAINS = {"efficientdet-d0": 1.15, "efficientdet-lite0": 0.9}


def value(name: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    """`foreign.value` for TensorFlow's names and order of axes."""
    if len(shape) == 4:
        rows, columns, inputs, outputs = shape
        if name.endswith("depthwise_kernel"):
            return foreign.value(name, (inputs, 1, rows, columns)).transpose(2, 3, 0, 1)
        return foreign.value(name, (outputs, inputs, rows, columns)).transpose(2, 3, 1, 0)
    if name.endswith("gamma"):
        return np.float32(gain) * foreign.value(f"{name}.weight", shape)
    return foreign.value(f"{name}.weight" if "/WSM" in name else name, shape)


def save(path: str, tensors: dict) -> None:
    """Writes a checkpoint."""
    tf.raw_ops.SaveV2(
        prefix=path,
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )


def unbuilt(name: str, **changes) -> keras.Model:
    """A detector whose variables have no values."""
    with keras.StatelessScope(initialize_variables=False):
        config = registry.config(name, **changes)
        model = registry.detector_class(name).from_record(config, name)
        model.build_variables()
    return model


def shapes_of(scale: str) -> dict[str, tuple[int, ...]]:
    """An EfficientNet's file; TensorFlow counts the layers of a kind within a block."""
    (stem, *widths), repeats, _ = LAYOUTS[scale]
    top, number, before = f"efficientnet-{scale}", 0, stem
    shapes = {f"{top}/stem/conv2d/kernel": (3, 3, 3, stem)}
    shapes |= batch_norms(f"{top}/stem", stem)
    stages = zip(widths, repeats, (1, 6, 6, 6, 6, 6, 6), (3, 3, 5, 3, 5, 5, 3), strict=True)
    for width, count, expand, size in stages:
        for _ in range(count):
            place, inner = f"{top}/blocks_{number}", before * expand
            shapes[f"{place}/depthwise_conv2d/depthwise_kernel"] = (size, size, inner, 1)
            if expand > 1:
                shapes[f"{place}/conv2d/kernel"] = (1, 1, before, inner)
                shapes[f"{place}/conv2d_1/kernel"] = (1, 1, inner, width)
                shapes |= batch_norms(place, inner, inner, width)
            else:
                shapes[f"{place}/conv2d/kernel"] = (1, 1, inner, width)
                shapes |= batch_norms(place, inner, width)
            if not scale.startswith("lite"):
                squeezed = before // 4
                shapes |= {
                    f"{place}/se/conv2d/kernel": (1, 1, inner, squeezed),
                    f"{place}/se/conv2d/bias": (squeezed,),
                    f"{place}/se/conv2d_1/kernel": (1, 1, squeezed, inner),
                    f"{place}/se/conv2d_1/bias": (inner,),
                }
            before, number = width, number + 1
    return shapes


def batch_norms(place: str, *widths: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{place}/tpu_batch_normalization{f'_{i}' if i else ''}/{name}": (width,)
        for i, width in enumerate(widths)
        for name in BN
    }


def shapes_of_entries(model: keras.Model, shapes: dict) -> dict[str, tuple[int, ...]]:
    return {entry.name: tuple(entry.shape) for entry in SOURCE.entries(model, shapes)}


@pytest.fixture(scope="module")
def d0_shapes():
    """The file of D0: what tells its variant, completed by the names of all others."""
    told = {
        **SPOTS,
        **{f"fpn_cells/cell_{i}/fnode0/WSM": () for i in range(3)},
        **{f"class_net/class-{i}/bias": (64,) for i in range(3)},
        "class_net/class-predict/pointwise_kernel": (1, 1, 64, 810),
    }
    return shapes_of_entries(unbuilt("efficientdet-d0"), told)


def test_names_and_numbers_are_the_published_ones(d0_shapes):
    assert len(d0_shapes) == TOTALS["d0"]
    assert {name: d0_shapes[name] for name in SPOTS} == SPOTS
    starts = ("efficientnet-b0/", "resample_p6/", "fpn_cells/", "class_net/", "box_net/")
    counts = tuple(sum(name.startswith(start) for name in d0_shapes) for start in starts)
    assert counts == (304, 6, 255, 72, 72)
    backbone = {n: s for n, s in d0_shapes.items() if n.startswith("efficientnet-b0/")}
    assert backbone == shapes_of("b0")


@pytest.mark.parametrize("name", foreign.networks("automl"))
def test_raw_outputs_are_those_of_automl(name, tmp_path):
    shapes = foreign.shapes("automl", name)
    tensors = {key: value(key, shape, GAINS[name]) for key, shape in shapes.items()}
    save(str(tmp_path / "model"), tensors)
    model = create(name, f"automl:{tmp_path}")
    differences = {}
    for size in SIZES:
        raw = model(foreign.image(size), training=False)
        ends = np.cumsum([9 * -(-size[0] // 2**k) * -(-size[1] // 2**k) for k in range(3, 8)])
        for kind in ("class_logits", "box_codes"):
            for level, x in enumerate(np.split(raw[kind], ends, axis=1)[:-1], start=3):
                key = f"{name}/{size[0]}x{size[1]}/{kind}/P{level}"
                expected = foreign.outputs("automl")[key]
                differences[key] = foreign.summaries_differ(foreign.summary(x), expected)
    assert len(differences) == 20
    print(name, f"{max(differences.values()):.1e}")
    assert max(differences.values()) < 1e-4, differences


def test_the_names_of_d0_are_those_of_its_graph(d0_shapes):
    assert d0_shapes == foreign.shapes("automl", "efficientdet-d0")


@pytest.mark.parametrize("name", ["d4", "d7x", "lite0"])
def test_larger_ones_have_as_many_variables(name):
    model = unbuilt(f"efficientdet-{name}")
    config = model.config
    levels = range(3, config.max_level + 1)
    told = {
        f"efficientnet-{config.backbone}/stem/conv2d/kernel": (3, 3, 3, 32),
        "class_net/class-predict/pointwise_kernel": (1, 1, config.fpn_width, 810),
        **{f"fpn_cells/cell_{i}/x": () for i in range(config.fpn_cells)},
        **{f"class_net/class-{i}/bias": () for i in range(config.head_repeats)},
        **{f"class_net/class-0-bn-{level}/beta": () for level in levels},
    }
    if config.fpn_fusion != "sum":
        told["fpn_cells/cell_0/fnode0/WSM"] = ()
    shapes = shapes_of_entries(model, told)
    assert len(shapes) == len(model.weights) == TOTALS[name]
    if name == "d7x":
        laterals = {n.split("/")[3] for n in shapes if "cell_0" in n and "/resample" in n}
        assert laterals == {
            *("resample_0_2_8", "resample_0_1_9", "resample_0_0_10", "resample_0_1_11"),
            "resample_0_2_12",
        }


def test_a_file_with_averages_gives_those_and_one_without_the_variables(d0_shapes, tmp_path):
    raw = filled.arrays(d0_shapes, seed=0)
    averages = {name + AVERAGE: value + 1 for name, value in raw.items()}
    slots = {f"{name}/Momentum": value for name, value in raw.items() if "moving_" not in name}
    path = str(tmp_path / "model")
    tensors = {**raw, **averages, **slots, "global_step": np.int64(7)}
    save(path, tensors)
    reader = tf.train.load_checkpoint(path)
    found = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    model = registry.create("efficientdet-d0", image_size=(64, 64))
    entries = filled.take(model, SOURCE, found)
    filled.assert_filled_once(entries, model.weights)
    gate = "efficientnet-b0/blocks_6/se/conv2d/kernel"
    np.testing.assert_array_equal(model.backbone.blocks[6].se.reduce.kernel, raw[gate] + 1)

    entries = filled.take(model, SOURCE, raw)
    filled.assert_filled_once(entries, model.weights)
    np.testing.assert_array_equal(model.backbone.blocks[6].se.reduce.kernel, raw[gate])


def test_the_classes_are_read_and_other_variants_are_refused(d0_shapes):
    settings = SOURCE.settings("efficientdet-d0", d0_shapes)
    assert settings["num_classes"] == 90 and "aspect_ratios" not in settings
    assert SOURCE.recognises(d0_shapes) and not SOURCE.backbone_only(d0_shapes)
    with pytest.raises(UserError, match="which efficientdet-d1 is not; use efficientdet-d0"):
        SOURCE.settings("efficientdet-d1", d0_shapes)
    with pytest.raises(UserError, match=r"of one backbone, .* here are none"):
        SOURCE.settings("efficientdet-d0", {"stem/conv2d/kernel": (3, 3, 3, 32)})


@pytest.mark.parametrize(("scale", "name"), [("b0", "fcos-test"), ("lite1", "retinanet-test")])
def test_a_backbone_alone_goes_into_any_detector(scale, name):
    shapes = shapes_of(scale)
    used = set(shapes)
    shapes |= {f"{key}{AVERAGE}": shape for key, shape in shapes.items()}
    shapes |= {
        f"efficientnet-{scale}/head/conv2d/kernel": (1, 1, 320, 1280),
        f"efficientnet-{scale}/head/dense/bias{AVERAGE}": (1000,),
        "global_step": (),
    }
    assert SOURCE.recognises(shapes) and SOURCE.backbone_only(shapes)
    settings = SOURCE.settings(name, shapes)
    assert settings["pixels"] == ("imagenet" if scale == "b0" else "lite")
    model = unbuilt(name, **settings)
    entries = SOURCE.entries(model, shapes)
    assert {entry.name: tuple(entry.shape) for entry in entries} == shapes
    assert {e.name for e in entries if e.variable is not None} == {n + AVERAGE for n in used}
    found = sorted(e.variable.path for e in entries if e.variable is not None)
    assert found == sorted(v.path for v in model.backbone.weights)
