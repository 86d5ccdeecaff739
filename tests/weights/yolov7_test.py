"""Published names, and the published networks' outputs for weights filled in by their order."""

import numpy as np
import pytest

from tfdet import registry
from tfdet.ops import anchor_grid
from tfdet.weights import yolov7

# Tensors of the checkpoints of two cascaded detectors: router, first and second backbone, and each
# of the two heads.
COUNTS = {
    "yolov7": (4, 246, 256, 320),
    "yolov7-x": (4, 294, 304, 350),
    "yolov7-w6": (4, 246, 256, 390),
}

# Mean and unbiased deviation of the backbone's levels from P1, and of the raw predictions from P3;
# the first and the last decoded row: x, y, width, height, object and first class.
TAPS = {
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
RAW = {
    "yolov7": ((-0.00651197, 0.164755), (-0.00240169, 0.177341), (-0.00126261, 0.167337)),
    "yolov7-x": ((-0.0227103, 0.138617), (-0.00862526, 0.137548), (-0.00258674, 0.127298)),
    "yolov7-w6": (
        (-0.00588046, 0.141683),
        (-0.00893491, 0.137431),
        (0.0160822, 0.13066),
        (0.00899521, 0.130199),
    ),
}
DECODED = {
    "yolov7": (
        (4.66337, 4.28939, 8.53766, 18.9132, 0.402029, 0.429397),
        (111.139, 108.089, 569.92, 406.586, 0.538004, 0.534087),
    ),
    "yolov7-x": (
        (3.56858, 4.41971, 16.1655, 13.9019, 0.472768, 0.503676),
        (109.823, 110.109, 402.906, 489.412, 0.490344, 0.506579),
    ),
    "yolov7-w6": (
        (4.25079, 3.74163, 17.4019, 23.7295, 0.482928, 0.466107),
        (105.074, 97.8558, 735.873, 674.424, 0.489239, 0.501695),
    ),
}


@pytest.fixture(scope="module", params=COUNTS)
def filled(request):
    """(name, model): the first detector of a cascade whose checkpoint was filled by the rule."""
    name = request.param
    model = registry.create(name, image_size=(128, 128))
    router, backbone, second_backbone, _ = COUNTS[name]
    first = yolov7.entries_of_rows("model_b", yolov7.backbone_rows(model.backbone))
    head = yolov7.entries_of_rows("model_h", yolov7.detection_rows(model))
    fill(first, router)
    fill(head, router + backbone + second_backbone)
    return name, model


def fill(entries, start):
    """Gives variables the values of the rule; `start` is the number of the first entry."""
    for number, entry in enumerate(entries, start):
        if entry.variable is not None:
            entry.assign(rule(entry.name, entry.shape, number))


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


def test_every_level_is_the_published_one(filled):
    name, model = filled
    found = [moments(x) for x in model.taps(picture()).values()]
    np.testing.assert_allclose(found, TAPS[name], rtol=1e-5, atol=1e-7)


def test_predictions_are_the_published_ones(filled):
    name, model = filled
    raw = model(picture())
    level = anchor_grid.rows(model.config.grid, (128, 128)).level
    parts = (raw["box_codes"], raw["object_logits"][..., None], raw["class_logits"])
    rows = np.concatenate(parts, axis=-1)[0]
    found = [moments(rows[level == i]) for i in range(level.max() + 1)]
    np.testing.assert_allclose(found, RAW[name], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(decoded(model, raw)[[0, -1]], DECODED[name], rtol=1e-5)


def test_the_merged_model_gives_the_same(filled):
    _, model = filled
    expected = model(picture())
    for key, value in model.for_inference()(picture()).items():
        np.testing.assert_allclose(value, expected[key], atol=1e-5)


def test_names_and_shapes_are_the_published_ones(filled):
    name, model = filled
    entries = yolov7.reference_entries(model)
    assert len(entries) == COUNTS[name][1] + COUNTS[name][3]
    shapes = {entry.name: entry.shape for entry in entries}
    offset, last = {"yolov7": (51, 105), "yolov7-x": (59, 121), "yolov7-w6": (47, 118)}[name]
    stem = "model.1.conv.weight" if name == "yolov7-w6" else "model.0.conv.weight"
    width, top = {"yolov7": (32, 512), "yolov7-x": (40, 640), "yolov7-w6": (64, 512)}[name]
    assert shapes[stem] == (width, 12 if name == "yolov7-w6" else 3, 3, 3)
    assert shapes[f"model.{offset}.cv5.conv.weight"] == (top, 4 * top, 1, 1)
    assert shapes[f"model.{offset}.cv5.bn.num_batches_tracked"] == ()
    channels = {"yolov7": 256, "yolov7-x": 320, "yolov7-w6": 256}[name]
    assert shapes[f"model.{last}.m.0.weight"] == (255, channels, 1, 1)
    assert shapes[f"model.{last}.ia.0.implicit"] == (1, channels, 1, 1)
    assert [entry.name for entry in entries][-1] == f"model.{last}.im.{len(RAW[name]) - 1}.implicit"


def test_every_weight_has_one_name(filled):
    _, model = filled
    variables = [x.variable for x in yolov7.reference_entries(model) if x.variable is not None]
    assert {id(v) for v in variables} == {id(v) for v in model.weights}
    assert len(variables) == len(model.weights)


def test_auxiliary_heads_are_where_the_published_training_file_has_them():
    model = registry.create(
        "yolov7-w6", auxiliary_heads=True, image_size=(64, 64), width=1 / 32, depth=1.0
    )
    names = [entry.name for entry in yolov7.reference_entries(model)]
    lines = dict.fromkeys(int(name.split(".")[1]) for name in names)
    assert list(lines)[-9:] == list(range(114, 123))
    head = [name.split(".", 2)[2] for name in names if name.startswith("model.122.")]
    parts = dict.fromkeys(name.split(".")[0] for name in head)
    assert list(parts) == ["anchors", "anchor_grid", "m", "m2", "ia", "im"]
    assert len(head) == 2 + 8 + 8 + 4 + 4


def test_merged_models_have_no_published_names():
    model = registry.create("yolov7-test", merged=True)
    with pytest.raises(ValueError, match="not merged"):
        yolov7.reference_entries(model)
