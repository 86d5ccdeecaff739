"""Published names, and the published networks' outputs for weights filled in by their order."""

import collections
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.weights import foreign
from tfdet import registry
from tfdet.errors import UserError
from tfdet.ops import anchor_grid
from tfdet.weights import yolov7

# Tensors of the checkpoints: router, first and second backbone, and each of the two heads.
COUNTS = {
    "yolov7": (4, 246, 256, 320),
    "yolov7-x": (4, 294, 304, 350),
    "yolov7-w6": (4, 246, 256, 390),
}
# Counters, which are no weights, of a cascade.
COUNTERS = {"yolov7": 184, "yolov7-x": 210, "yolov7-w6": 206}

EASINESS = {"yolov7": 0.4506999, "yolov7-x": 0.5012268, "yolov7-w6": 0.4952684}

# Mean and unbiased deviation of the levels of each backbone, from P1 or P3.
FIRST_TAPS = {
    "yolov7": (
        (0.0947445, 0.319864),
        (0.0107282, 0.128006),
        (0.0060824, 0.0799138),
        (0.00216921, 0.0693723),
        (0.00370035, 0.0614273),
    ),
    "yolov7-x": (
        (0.103658, 0.431029),
        (0.0266539, 0.185702),
        (0.00382956, 0.099249),
        (0.00233728, 0.0685315),
        (0.00351287, 0.0598583),
    ),
    "yolov7-w6": (
        (0.216102, 0.533125),
        (0.0481223, 0.301111),
        (0.019786, 0.155847),
        (0.00731001, 0.0841256),
        (-0.00114931, 0.0655721),
        (0.00345027, 0.0598867),
    ),
}
SECOND_TAPS = {
    "yolov7": ((0.0824676, 0.34705), (0.0454944, 0.232485), (0.017466, 0.121568)),
    "yolov7-x": ((0.136026, 0.439456), (0.0643382, 0.273555), (0.0243936, 0.153197)),
    "yolov7-w6": (
        (0.340447, 0.801948),
        (0.373772, 0.872474),
        (0.250577, 0.689896),
        (0.101191, 0.371448),
    ),
}
# The same of the raw predictions of each level.
RAW = {
    ("yolov7", "first"): (
        (-0.00651197, 0.164755),
        (-0.00240169, 0.177341),
        (-0.00126261, 0.167337),
    ),
    ("yolov7", "second"): (
        (-0.00951837, 0.228352),
        (0.00852523, 0.175227),
        (-0.000216793, 0.165769),
    ),
    ("yolov7-x", "first"): (
        (-0.0227103, 0.138617),
        (-0.00862526, 0.137548),
        (-0.00258674, 0.127298),
    ),
    ("yolov7-x", "second"): (
        (0.00847337, 0.217586),
        (-0.0188561, 0.140605),
        (0.00089468, 0.138165),
    ),
    ("yolov7-w6", "first"): (
        (-0.00588046, 0.141683),
        (-0.00893491, 0.137431),
        (0.0160822, 0.13066),
        (0.00899521, 0.130199),
    ),
    ("yolov7-w6", "second"): (
        (-0.00957531, 0.594746),
        (0.0091385, 0.350221),
        (0.00411312, 0.208968),
        (-0.0037586, 0.145495),
    ),
}
# P3 of the second YOLOv7-X where it reads its own P2, as nobody trained it.
SYMMETRIC_X = (0.00606168, 0.209098)
# The first and the last row: x, y, width, height, object and first class.
DECODED = {
    ("yolov7", "first"): (
        (4.66337, 4.28939, 8.53766, 18.9132, 0.402029, 0.429397),
        (111.139, 108.089, 569.92, 406.586, 0.538004, 0.534087),
    ),
    ("yolov7", "second"): (
        (3.59099, 3.14348, 8.03845, 19.5242, 0.441817, 0.490445),
        (112.56, 111.261, 621.803, 454.582, 0.542523, 0.533536),
    ),
    ("yolov7-x", "first"): (
        (3.56858, 4.41971, 16.1655, 13.9019, 0.472768, 0.503676),
        (109.823, 110.109, 402.906, 489.412, 0.490344, 0.506579),
    ),
    ("yolov7-x", "second"): (
        (3.67262, 3.38345, 12.0708, 20.3746, 0.498778, 0.545646),
        (112.283, 113.11, 408.139, 330.765, 0.505959, 0.524135),
    ),
    ("yolov7-w6", "first"): (
        (4.25079, 3.74163, 17.4019, 23.7295, 0.482928, 0.466107),
        (105.074, 97.8558, 735.873, 674.424, 0.489239, 0.501695),
    ),
    ("yolov7-w6", "second"): (
        (2.61271, 3.99033, 19.4836, 32.5278, 0.475546, 0.512795),
        (97.3825, 97.9307, 1000.86, 832.663, 0.443578, 0.546233),
    ),
}


@pytest.fixture(
    scope="module",
    params=[
        "yolov7",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("yolov7-x", "yolov7-w6")),
    ],
)
def filled(request):
    """(name of the detectors, cascade), its checkpoint filled by the rule."""
    model = registry.create(f"dy-{request.param}", image_size=(128, 128))
    fill(model)
    return request.param, model


def fill(model):
    """Gives variables the values of the rule, by their number in the checkpoint."""
    for number, entry in enumerate(yolov7.reference_entries(model, {})):
        if entry.variable is not None:
            assert entry.assign(rule(entry.name, entry.shape, number))


def rule(name, shape, number):
    u = np.random.RandomState(number).uniform(-1, 1, shape)
    if name.endswith("running_var"):
        return 1 + 0.5 * u
    if name.endswith(("running_mean", ".bias")) or ".ia." in name:
        return 0.1 * u
    if len(shape) == 4 and ".im." not in name:
        return u * np.sqrt(6.5 / np.prod(shape[1:]))
    return 1 + 0.1 * u


def picture():
    image = np.random.RandomState(12345).uniform(0, 1, (1, 3, 128, 128))
    return (255 * image.transpose(0, 2, 3, 1)).astype(np.float32)


def moments(x):
    x = np.asarray(x, np.float64)
    return x.mean(), x.std(ddof=1)


def decoded(model, raw):
    """Rows of x, y, width, height, object and first class."""
    boxes = np.asarray(anchor_grid.decode(raw["box_codes"], model.config.grid, (128, 128)))[0]
    center, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    logits = np.stack([raw["object_logits"][0], raw["class_logits"][0, :, 0]], axis=-1)
    return np.concatenate([center, side, 1 / (1 + np.exp(-logits))], axis=-1)


@pytest.fixture(scope="module")
def outputs(filled):
    return filled[1](picture())


def test_the_router_gives_the_published_score(filled, outputs):
    np.testing.assert_allclose(outputs["easiness"], [EASINESS[filled[0]]], atol=1e-6)


def test_every_level_is_the_published_one(filled):
    name, model = filled
    first = model.first.taps(picture())
    found = [moments(x) for x in first.values()]
    np.testing.assert_allclose(found, FIRST_TAPS[name], rtol=1e-5, atol=1e-7)
    second = model.second_taps(picture(), first)
    found = [moments(second[f"P{i}"]) for i in range(3, 3 + len(SECOND_TAPS[name]))]
    np.testing.assert_allclose(found, SECOND_TAPS[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("role", ["first", "second"])
def test_predictions_are_the_published_ones(filled, outputs, role):
    name, model = filled
    raw = outputs[role]
    np.testing.assert_allclose(raw_moments(model, raw), RAW[name, role], rtol=1e-5, atol=1e-7)
    rows = decoded(getattr(model, role), raw)
    assert len(rows) == (1020 if name == "yolov7-w6" else 1008)
    np.testing.assert_allclose(rows[[0, -1]], DECODED[name, role], rtol=1e-5)


def raw_moments(model, raw):
    level = anchor_grid.rows(model.first.config.grid, (128, 128)).level
    parts = (raw["box_codes"], raw["object_logits"][..., None], raw["class_logits"])
    rows = np.concatenate(parts, axis=-1)[0]
    return [moments(rows[level == i]) for i in range(level.max() + 1)]


def test_the_merged_cascade_gives_the_same(filled, outputs):
    _, model = filled
    found = model.for_inference()(picture())
    for value, expected in zip(tf.nest.flatten(found), tf.nest.flatten(outputs), strict=True):
        np.testing.assert_allclose(value, expected, atol=5e-5)  # 2e-5 were seen in W6


def test_names_are_as_many_as_published_and_every_weight_has_one(filled):
    name, model = filled
    entries = yolov7.reference_entries(model, {})
    router, backbone, second, head = COUNTS[name]
    assert len(entries) == router + backbone + second + 2 * head
    parts = collections.Counter(entry.name.split(".")[0] for entry in entries)
    assert list(parts.items()) == [
        ("router", router),
        ("model_b", backbone),
        ("model_b2", second),
        ("model_h", head),
        ("model_h2", head),
    ]
    counters = sum(entry.name.endswith("num_batches_tracked") for entry in entries)
    assert counters == COUNTERS[name]
    variables = [entry.variable for entry in entries if entry.variable is not None]
    assert {id(v) for v in variables} == {id(v) for v in model.weights}
    assert len(variables) == len(model.weights) == len(entries) - counters - 4


@pytest.mark.slow
def test_the_symmetric_second_x_is_another_network():
    symmetric = {"second.borrows_p2": False}
    model = registry.create("dy-yolov7-x", image_size=(128, 128), **symmetric)
    fill(model)
    found = raw_moments(model, model(picture())["second"])
    np.testing.assert_allclose(found[0], SYMMETRIC_X, rtol=1e-5)


# Line of the first head; a few tensors with their shapes.
STANDALONE = {
    "yolov7": (
        51,
        {
            "model.0.conv.weight": (32, 3, 3, 3),
            "model.51.cv5.conv.weight": (512, 2048, 1, 1),
            "model.51.cv5.bn.num_batches_tracked": (),
            "model.102.rbr_dense.0.weight": (256, 128, 3, 3),
            "model.104.rbr_1x1.1.running_var": (1024,),
            "model.105.anchor_grid": (3, 1, 3, 1, 1, 2),
            "model.105.m.2.bias": (255,),
            "model.105.ia.1.implicit": (1, 512, 1, 1),
            "model.105.im.2.implicit": (1, 255, 1, 1),
        },
    ),
    "yolov7-x": (
        59,
        {
            "model.13.conv.weight": (320, 320, 1, 1),
            "model.59.cv7.conv.weight": (640, 1280, 1, 1),
            "model.120.conv.weight": (1280, 640, 3, 3),
            "model.121.im.2.implicit": (1, 255, 1, 1),
        },
    ),
    "yolov7-w6": (
        47,
        {
            "model.1.conv.weight": (64, 12, 3, 3),
            "model.46.conv.weight": (1024, 2048, 1, 1),
            "model.114.conv.weight": (256, 128, 3, 3),
            "model.118.m.3.weight": (255, 1024, 1, 1),
            "model.118.im.3.implicit": (1, 255, 1, 1),
        },
    ),
}


@pytest.mark.parametrize("name", STANDALONE)
def test_alone_lines_are_numbered_through(name):
    with keras.StatelessScope(initialize_variables=False):
        model = registry.detector_class(name).from_record(registry.config(name), name)
        model.build_variables()
    offset, expected = STANDALONE[name]
    entries = yolov7.reference_entries(model, {})
    shapes = {entry.name: entry.shape for entry in entries}
    assert {key: shapes[key] for key in expected} == expected
    assert len(entries) == len(shapes) == COUNTS[name][1] + COUNTS[name][3]
    assert entries[-1].name == list(expected)[-1]
    assert entries[COUNTS[name][1]].name == f"model.{offset}.cv1.conv.weight"


def test_auxiliary_heads_are_where_the_published_training_file_has_them():
    model = registry.create(
        "yolov7-w6", auxiliary_heads=True, image_size=(64, 64), width=1 / 32, depth=1.0
    )
    names = [entry.name for entry in yolov7.reference_entries(model, {})]
    lines = dict.fromkeys(int(name.split(".")[1]) for name in names)
    assert list(lines)[-9:] == list(range(114, 123))
    head = [name.split(".", 2)[2] for name in names if name.startswith("model.122.")]
    parts = dict.fromkeys(name.split(".")[0] for name in head)
    assert list(parts) == ["anchors", "anchor_grid", "m", "m2", "ia", "im"]
    assert len(head) == 2 + 8 + 8 + 4 + 4


# --- files in which something is merged already ---

SMALL = {"image_size": (64, 64), "width": 1 / 16}
PICTURE = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3)).astype(np.float32)


def small(name, **changes):
    """Overrides of a model whose networks are narrow."""
    if name.startswith("dy-"):
        width = {f"{role}.width": SMALL["width"] for role in ("first", "second")}
        return {"image_size": SMALL["image_size"], **width, **changes}
    return {**SMALL, **changes}


@functools.cache
def as_trained(name, **changes):
    """A model, and the tensors of its file."""
    model = registry.create(name, num_classes=4, **small(name, **changes))
    tensors = {}
    for entry in yolov7.reference_entries(model, {}):
        counter = entry.name.endswith("num_batches_tracked")
        tensors[entry.name] = np.zeros((), int) if counter else foreign.value(*entry[:2])
        if entry.variable is not None:
            assert entry.assign(tensors[entry.name])
    return model, tensors


def with_merged_heads(tensors):
    merged = {}
    for name, x in tensors.items():
        head, _, end = name.rpartition(".m.")
        if not head:
            if ".ia." not in name and ".im." not in name:
                merged[name] = x
            continue
        i, kind = end.split(".")
        add, multiply = (tensors[f"{head}.{v}.{i}.implicit"].ravel() for v in ("ia", "im"))
        if kind == "bias":
            weight = tensors[f"{head}.m.{i}.weight"]
            merged[name] = (x + weight[:, :, 0, 0] @ add) * multiply
        else:
            merged[name] = x * multiply[:, None, None, None]
    return merged


def folded(tensors, conv, bn):
    """Kernel and bias of a convolution and its batch norm."""
    variance, mean = (tensors[f"{bn}.running_{x}"] for x in ("var", "mean"))
    scale = tensors[f"{bn}.weight"] / np.sqrt(variance + 1e-3)
    kernel = tensors[f"{conv}.weight"] * scale[:, None, None, None]
    return kernel, tensors[f"{bn}.bias"] - mean * scale


def with_merged_branches(tensors):
    merged = {}
    for name, x in tensors.items():
        prefix = name.partition(".rbr_")[0]
        if prefix == name:
            merged[name] = x
        elif f"{prefix}.rbr_reparam.weight" not in merged:
            (kernel, bias), (center, shift) = (
                folded(tensors, f"{prefix}.{branch}.0", f"{prefix}.{branch}.1")
                for branch in ("rbr_dense", "rbr_1x1")
            )
            kernel[:, :, 1:2, 1:2] += center
            merged |= {f"{prefix}.rbr_reparam.weight": kernel}
            merged |= {f"{prefix}.rbr_reparam.bias": bias + shift}
    return merged


def with_merged_norms(tensors):
    merged = {}
    for name, x in tensors.items():
        prefix, _, end = name.rpartition(".conv.")
        if f"{prefix}.bn.weight" in tensors and end == "weight":
            kernel, bias = folded(tensors, f"{prefix}.conv", f"{prefix}.bn")
            merged |= {name: kernel, f"{prefix}.conv.bias": bias}
        elif ".bn." not in name:
            merged[name] = x
    return merged


FORMS = {
    "deployed": (with_merged_heads,),
    "branches": (with_merged_branches,),
    "merged": (with_merged_heads, with_merged_branches, with_merged_norms),
}


@pytest.mark.parametrize(
    ("name", "form"),
    [*(("yolov7", form) for form in FORMS), ("yolov7-w6", "merged"), ("dy-yolov7", "merged")],
)
def test_a_merged_file_gives_the_same_network(name, form):
    model, tensors = as_trained(name)
    for merge in FORMS[form]:
        tensors = merge(tensors)
    other = foreign.filled(yolov7.SOURCE, name, tensors, **small(name))
    part = other.first if name.startswith("dy-") else other
    assert part.config.merged == (form == "merged")
    shapes = {key: x.shape for key, x in tensors.items()}
    foreign.check_entries(yolov7.SOURCE.entries(other, shapes), shapes, other.weights)
    found, expected = other(PICTURE), model(PICTURE)
    for x, y in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        assert foreign.difference(x, y) < 1e-4  # 2e-5 were seen


def test_vectors_that_are_left_in_a_merged_file_are_not_used():
    _, tensors = as_trained("yolov7")
    vectors = {name: x for name, x in tensors.items() if name.endswith(".implicit")}
    for merge in FORMS["merged"]:
        tensors = merge(tensors)
    shapes = {name: x.shape for name, x in {**tensors, **vectors}.items()}
    model, entries = foreign.created(yolov7.SOURCE, "yolov7", shapes, **SMALL)
    foreign.check_entries(entries, shapes, model.weights)
    unused = {x.name for x in entries if x.variable is None}
    assert set(vectors) <= unused


def test_a_cascade_of_the_first_step_has_no_router_yet():
    _, tensors = as_trained("dy-yolov7")
    shapes = {name: x.shape for name, x in tensors.items() if not name.startswith("router")}
    assert len(shapes) == len(tensors) - 4
    model, entries = foreign.created(yolov7.SOURCE, "dy-yolov7", shapes, **small("dy-yolov7"))
    routers = {id(v) for v in yolov7.SOURCE.new(model, shapes)}
    assert len(routers) == len(model.router.weights) == 4
    others = [v for v in model.weights if id(v) not in routers]
    foreign.check_entries(entries, shapes, others)


def test_classes_are_counted_and_auxiliary_heads_are_found():
    _, tensors = as_trained("yolov7-w6", auxiliary_heads=True)
    shapes = {name: x.shape for name, x in tensors.items()}
    assert yolov7.SOURCE.recognises(shapes) and not yolov7.SOURCE.backbone_only(shapes)
    assert yolov7.SOURCE.settings("yolov7-w6", shapes) == {
        "num_classes": 4,
        "merged": False,
        "implicit": True,
        "auxiliary_heads": True,
    }
    model, entries = foreign.created(yolov7.SOURCE, "yolov7-w6", shapes, **SMALL)
    foreign.check_entries(entries, shapes, model.weights)


@pytest.mark.parametrize(
    ("file", "name", "message"),
    [
        ("yolov7", "yolov7-x", "another network than yolov7-x; choose yolov7"),
        ("yolov7", "dy-yolov7", "choose yolov7"),
        ("dy-yolov7", "yolov7", "choose dy-yolov7"),
        ("yolov7", "fcos-r50", "another network than fcos-r50"),
        ("yolov7", "dy-faster-rcnn-r50", "choose yolov7"),
    ],
)
def test_other_models_are_refused(file, name, message):
    _, tensors = as_trained(file)
    shapes = {key: x.shape for key, x in tensors.items()}
    with pytest.raises(UserError, match=message):
        yolov7.SOURCE.settings(name, shapes)


def test_a_model_in_another_form_is_refused():
    model, tensors = as_trained("yolov7")
    shapes = {key: x.shape for key, x in with_merged_heads(tensors).items()}
    with pytest.raises(UserError, match="implicit=False, this one has implicit=True"):
        yolov7.SOURCE.entries(model, shapes)
    with pytest.raises(UserError, match="for a YoloV7, not for a FCOS"):
        yolov7.SOURCE.entries(foreign.unfilled("fcos-test"), shapes)
