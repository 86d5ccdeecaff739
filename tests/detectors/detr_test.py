"""What is special in DETR; golden values are the published implementation's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import config as recipes
from tfdet import profiling, registry
from tfdet.detectors import detr
from tfdet.detectors.detr import DETR, DETRConfig
from tfdet.errors import UserError
from tfdet.losses import set_prediction
from tfdet.recipes import catalog
from tfdet.weights import detr as detr_weights

TOLERANCE = 2e-5

# Trainable parameters, all parameters, all numbers (with frozen batch norms), multiply-adds.
PUBLISHED = {
    "r50": (41_302_368, 41_524_768, 41_631_008, 101_913_907_200),
    "r50-dc5": (41_302_368, 41_524_768, 41_631_008, 228_002_611_200),
    "r101": (60_242_272, 60_464_672, 60_675_360, 181_461_504_000),
    "r101-dc5": (60_242_272, 60_464_672, 60_675_360, 307_550_208_000),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_work_are_the_published_ones(name):
    found = profiling.profile(f"detr-{name}", (800, 1344))
    counts = (found.trainable, found.parameters, found.parameters_total, found.macs)
    assert counts == PUBLISHED[name]


def published(model):
    """{published name: variables}; a name has three variables where the published one is packed."""
    names = {}
    for tensor in detr_weights.reference_entries(model):
        if tensor.variable is not None:
            names.setdefault(tensor.name, []).append(tensor.variable)
    return names


def as_published(name, values):
    """Kernels, or whatever has their shapes, in the published layout."""
    values = [np.asarray(x) for x in values]
    if values[0].ndim == 4:
        values = [x.transpose(3, 2, 0, 1) for x in values]
    elif values[0].ndim == 2 and name != "query_embed.weight":
        values = [x.T for x in values]
    return np.concatenate(values)


def fill(model):
    """Gives the variables the values that the golden numbers belong to."""
    numbers = {name: number for number, name in enumerate(published(model))}
    for tensor in detr_weights.reference_entries(model):
        if tensor.variable is not None:
            tensor.assign(golden_value(tensor.name, tensor.shape, numbers[tensor.name]))


def golden_value(name, shape, number):
    u = rule(number, shape)
    if name.endswith("running_mean"):
        return 0.1 * u
    if name.endswith("running_var"):
        return 1 + 0.5 * u
    if name == "query_embed.weight":
        return 3 * u
    if name.endswith("bias"):
        return 0.1 * u
    if len(shape) == 1:
        return (0.25 if name.endswith("bn3.weight") else 1) * (1 + 0.1 * u)
    gain = 6 if len(shape) == 4 and name.startswith("backbone") else 3
    return u * np.sqrt(gain / np.prod(shape[1:]))


def rule(seed, shape):
    j = np.arange(np.prod(shape), dtype=np.int64) + 1009 * seed
    remainder = (31 * j * j + 7919 * j + 104729 * seed + 17) % 10007
    return (2 * remainder / 10007 - 1).reshape(shape)


def check(found, first, norm, mean=None):
    """The first numbers, the norm and the mean of a tensor in the published layout."""
    found = np.asarray(found, np.float64)
    np.testing.assert_allclose(found.ravel()[: len(first)], first, atol=TOLERANCE)
    assert np.linalg.norm(found) == pytest.approx(norm, rel=1e-6, abs=TOLERANCE)
    if mean is not None:
        assert found.mean() == pytest.approx(mean, abs=TOLERANCE)


# --- a small net ---


@pytest.fixture(scope="module")
def tiny():
    config = DETRConfig(
        image_size=(5, 7),
        num_classes=5,
        backbone="resnet-test",
        width=32,
        heads=4,
        encoder_layers=2,
        decoder_layers=2,
        feed_forward=64,
        queries=7,
    )
    model = DETR(config)
    model.predictions(taps())
    fill(model)
    assert sum(np.prod(v.shape) for v in model.trainable_variables) == 46_026
    norms = [np.linalg.norm(v) for v in model.trainable_variables]
    assert np.linalg.norm(norms) == pytest.approx(47.473479, abs=TOLERANCE)
    return model


def taps():
    """A map of the backbone; the last row and two columns of image 1 are padding."""
    x = rule(1000, (2, 16, 5, 7)).transpose(0, 2, 3, 1)
    return {"P5": tf.constant(x, tf.float32), "extents": tf.constant([[5.0, 7.0], [4.0, 5.0]])}


def targets():
    """The golden objects in pixels of the images of `taps`."""
    boxes = np.array(
        [
            [[0.30, 0.40, 0.20, 0.30], [0.62, 0.55, 0.40, 0.50], [0.80, 0.20, 0.15, 0.10]],
            [[0.50, 0.50, 0.60, 0.70], [0.25, 0.70, 0.20, 0.20], [0.52, 0.48, 0.55, 0.60]],
        ]
    )
    corners = np.concatenate(
        [boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], axis=-1
    )
    corners *= np.array([[7, 5, 7, 5], [5, 4, 5, 4]])[:, None]
    return {
        "boxes": corners.astype(np.float32),
        "labels": np.array([[1, 3, 0], [4, 1, 4]], np.int32),
    }


def test_the_encoder_is_the_published_one(tiny):
    x, extents = taps().values()
    layers = tiny.transformer
    is_image = detr.cells_of_image(extents, (5, 7), (5, 7))
    projected, positions = layers.project(x), detr.sine_positions(is_image, 32)
    first = (-0.520223, 1.427111, 0.479814, -0.646774, 0.167626, 0.313599, 0.757388, 0.322280)
    check(np.transpose(projected, (0, 3, 1, 2)), first, 26.848731, 0.0251581)
    first = (0.951056,) * 7 + (0.587786,)
    check(np.transpose(positions, (0, 3, 1, 2)), first, 33.466401, 0.4786166)

    memory, positions, is_seen = (
        keras.ops.reshape(x, (2, 35, -1)) for x in (projected, positions, is_image)
    )
    memory = layers.encoder[0](memory, positions, is_seen[..., 0])
    first = (0.544669, 1.565495, 0.015417, -0.548263, 0.458830, -0.957222, 2.420612, -0.509746)
    check(memory[1], first, 33.910271, -0.0026302)
    memory = layers.encoder[1](memory, positions, is_seen[..., 0])
    first = (-0.300599, 0.417577, 0.750216, -0.902198, 0.185017, 1.053041, -0.340805, -1.346209)
    check(memory[0], first, 34.071087, 0.0072209)
    first = (1.071816, 0.855162, -0.698954, -0.842203, -0.213189, -0.413322, 1.673466, -0.806660)
    check(memory[1], first, 33.919817, 0.0100605)


def test_the_decoder_is_the_published_one(tiny):
    x, extents = taps().values()
    found = tiny.transformer(x, detr.cells_of_image(extents, (5, 7), (5, 7)))
    first = (-1.116538, 0.281598, -1.115727, 1.792663, -0.199631, 0.068297, -0.863295, -1.364054)
    check(found[0, 0], first, 14.554201, -0.0056674)
    first = (-0.733557, -0.251557, -0.760147, 1.449431, 0.340172, -0.624986, 0.392648, -0.923223)
    check(found[1, 0], first, 14.513169, -0.0057270)
    first = (0.381114, 0.580256, -0.739535, 1.375139, -0.036659, -0.384096, -0.960228, -0.621568)
    check(found[0, 1], first, 14.294472, -0.0068935)
    first = (0.525984, 0.447385, -0.676789, 1.467357, -0.386836, -0.787879, 0.078868, -0.679177)
    check(found[1, 1], first, 14.271281, -0.0086213)


def test_the_predictions_are_the_published_ones(tiny):
    raw = tiny.predictions(taps())
    logits, boxes = raw["class_logits"], raw["boxes"]
    first = (-1.432852, -1.077206, -0.422220, 0.964660, -0.338979, -0.913792, -1.043901, -0.450987)
    check(logits[0, 1], first, 4.815579, -0.5404135)
    first = (-1.255527, -0.994606, -0.600064, 1.163976, 0.167108, -1.078841, -0.696768, -0.366259)
    check(logits[1, 1], first, 4.346817, -0.4597830)
    first = (-0.701352, -1.009826, -1.188591, 0.889870, 0.597457, -0.164122, -0.312432, -0.049605)
    check(logits[:, 0], first, 7.883526, -0.2819500)
    first = (0.564100, 0.310220, 0.414923, 0.547764, 0.574267, 0.299501, 0.461642, 0.585683)
    check(boxes[0, 1], first, 2.569991, 0.4711914)
    first = (0.585079, 0.404855, 0.393604, 0.522168, 0.585473, 0.347531, 0.444124, 0.566313)
    check(boxes[1, 1], first, 2.598225, 0.4817065)
    first = (0.565932, 0.362657, 0.439239, 0.474991, 0.554656, 0.309325, 0.466245, 0.499917)
    check(boxes[:, 0], first, 3.593529, 0.4741234)


# Ends of names; norm and first numbers of the gradients of the whole loss.
GRADIENTS = {
    "query_embed.weight": (0.178240, (-0.009237, -0.001209, -0.012982, 0.000665)),
    "class_embed.weight": (2.755161, (0.006737, -0.046913, 0.168335, -0.102018)),
    "class_embed.bias": (0.584520, (-0.088732, -0.341320, 0.158017, 0.402621)),
    "bbox_embed.layers.2.bias": (2.837201, (1.312252, -2.487954, 0.308020, 0.207152)),
    "input_proj.weight": (2.238807, (0.104622, 0.113033, 0.103291, 0.110911)),
    "encoder.layers.0.self_attn.in_proj_weight": (1.373972, (-0.019179, 0.005998, -0.026655)),
    "encoder.layers.1.linear2.weight": (2.496588, (0.143643, 0.041121, 0.038322, 0.010003)),
    "decoder.layers.1.multihead_attn.in_proj_bias": (0.509046, (0.031312, 0.005540, -0.014125)),
    "decoder.norm.weight": (1.057234, (0.235933, -0.153612, -0.167296, 0.036446)),
    # Its queries see equal values, whatever they look at.
    "decoder.layers.0.self_attn.in_proj_weight": (0.0, (0.0,) * 4),
}


def test_losses_and_gradients_are_the_published_ones(tiny):
    with tf.GradientTape() as tape:
        raw = tiny.predictions(taps())
        terms = tiny.loss_terms(targets(), raw)
        total = sum(terms.values())
    expected = (2.0291654 + 1.7923387, 5 * (0.7145372 + 0.6589716), 2 * (0.9000086 + 0.8303544))
    assert [float(x) for x in terms.values()] == pytest.approx(expected, abs=TOLERANCE)
    assert float(total) == pytest.approx(14.149774, abs=TOLERANCE)

    variables = published(tiny)
    gradients = tape.gradient(total, variables)
    assert len(variables) == 73
    norm = np.linalg.norm([np.linalg.norm(g) for gs in gradients.values() for g in gs])
    assert norm == pytest.approx(18.464757, abs=5 * TOLERANCE)
    for end, (norm, first) in GRADIENTS.items():
        (name,) = (name for name in gradients if name.endswith(end))
        check(as_published(name, gradients[name]), first, norm)


def test_positions_are_the_published_ones():
    is_image = np.ones((1, 5, 7), bool)
    is_image[:, :, 5:] = False
    small = np.asarray(detr.sine_positions(is_image, 32))[0]
    corner = (0.951056, 0.309017, 0.387007, 0.922077, 0.125333, 0.992115)
    right = (-0.000001, 1, 0.914664, -0.404216, 0.587785, 0.809017)
    rows = {
        (0, 0): (corner, corner),
        (0, 4): (corner, right),
        (0, 5): ((0, 1) * 3, right),
        (2, 3): (
            (-0.587785, -0.809017, 0.929166, 0.369663, 0.368125, 0.929776),
            (-0.951057, 0.309016, 0.999824, -0.018736, 0.481754, 0.876307),
        ),
        (4, 6): ((0, 1) * 3, right),
    }
    for place, (y, x) in rows.items():
        np.testing.assert_allclose(small[place][:6], y, atol=2e-6)
        np.testing.assert_allclose(small[place][16:22], x, atol=2e-6)
    assert small.sum() == pytest.approx(538.93196, abs=1e-3)
    assert np.linalg.norm(small) == pytest.approx(23.664319, abs=TOLERANCE)

    large = np.asarray(detr.sine_positions(is_image, 256))[0]
    index = [0, 1, 2, 3, 126, 127, 128, 129, 130, 131, 254, 255]
    start = (0.951056, 0.309017, 0.885794, 0.464078)
    rows = {
        (0, 0): (*start, 0.000145, 1, *start, 0.000145, 1),
        (2, 3): (
            *(-0.587785, -0.809017, -0.122705, -0.992443, 0.000435, 1),
            *(-0.951057, 0.309016, -0.936045, -0.351879, 0.000580, 1),
        ),
        (2, 5): (0, 1, 0, 1, 0, 1, -0.000001, 1, -0.746091, 0.665844, 0.000726, 1),
    }
    for place, expected in rows.items():
        np.testing.assert_allclose(large[place][index], expected, atol=2e-6)
    assert large.sum() == pytest.approx(4336.1532, abs=5e-3)
    assert np.linalg.norm(large) == pytest.approx(66.932802, abs=TOLERANCE)


@pytest.mark.parametrize(("size", "cells"), [(61, 2), (64, 2), (427, 14), (1344, 42)])
def test_a_cell_is_padding_where_its_published_row_is(size, cells):
    starts = [i * size // cells for i in range(cells)]
    for extent in {1, starts[1], starts[1] + 1, size - 1, size}:
        found = detr.cells_of_image(np.array([[extent, 3.0]], np.float32), (cells, 1), (size, 3))
        assert np.asarray(found)[0, :, 0].tolist() == [start < extent for start in starts]


def test_the_extent_of_an_image_ends_where_only_padding_follows():
    colour = registry.create("detr-test").pad_value
    canvas = np.broadcast_to(np.float32(colour), (5, 6, 9, 3)).copy()
    canvas[0, :4, :7] = 10  # as a letterbox leaves it
    canvas[1, 2, 3] = 10  # a picture in the padding's own colour, but for a pixel
    canvas[2] = 124
    canvas[3, :, :5, 1] = 0  # other in one channel only
    extents = detr.image_extents(canvas, colour)
    # Without any other colour there is no saying; the whole canvas counts.
    np.testing.assert_array_equal(extents, [[4, 7], [3, 4], [6, 9], [6, 5], [6, 9]])
    whole = detr.image_extents(np.full((2, 6, 9, 3), 124, np.uint8), colour)
    np.testing.assert_array_equal(whole, [[6, 9]] * 2)
    assert detr.image_extents(canvas[:0], colour).shape == (0, 2)


def images(count=3, size=(64, 64)):
    return np.random.default_rng(0).uniform(0, 255, (count, *size, 3)).astype(np.float32)


def test_queries_in_another_order_find_the_same_in_that_order(tiny):
    before = tiny.predictions(taps())
    table = tiny.transformer.query_embedding
    values, order = np.array(table), np.array([3, 0, 5, 1, 6, 2, 4])
    try:
        table.assign(values[order])
        after = tiny.predictions(taps())
    finally:
        table.assign(values)
    for name in ("class_logits", "boxes"):
        expected = np.asarray(before[name])[:, :, order]
        np.testing.assert_allclose(after[name], expected, atol=1e-5)
        assert np.abs(expected - before[name]).max() > 0.01


def test_nothing_sees_what_is_in_the_padding(tiny):
    x, extents = taps().values()
    is_image = np.asarray(detr.cells_of_image(extents, (5, 7), (5, 7)))
    expected = tiny.transformer(x, is_image)
    noise = np.random.default_rng(0).normal(0, 100, x.shape)
    found = tiny.transformer(np.where(is_image[..., None], x, noise).astype(np.float32), is_image)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    seen = tiny.transformer(np.where(is_image[..., None], noise, x).astype(np.float32), is_image)
    assert np.abs(seen - expected).max() > 0.1


def test_an_image_is_read_alone_as_it_is_among_others():
    model = registry.create("detr-test")
    canvas = images()
    canvas[1, 40:], canvas[2, :, 20:] = model.pad_value, model.pad_value
    together = model(canvas)
    for i in range(3):
        for name, value in model(canvas[i : i + 1]).items():
            np.testing.assert_allclose(value[0], together[name][i], atol=1e-5)
    np.testing.assert_array_equal(together["extents"], [[64, 64], [40, 64], [64, 20]])


def test_what_is_learnt_is_what_is_detected():
    """Perfect predictions, made from the targets of padded images, decode to the objects."""
    model = registry.create("detr-test")
    extents = np.array([[48, 64], [64, 30]], np.float32)
    wanted = {
        "boxes": np.array([[[4, 6, 40, 44], [30, 20, 60, 48]], [[2, 3, 29, 60], [0] * 4]], "f"),
        "labels": np.array([[1, 2], [3, -1]], np.int32),
    }
    objects = set_prediction.relative_objects(wanted, extents)
    raw = {
        "class_logits": np.zeros((2, 1, 10, 6), np.float32),
        "boxes": np.full((2, 1, 10, 4), 0.2, np.float32),
        "extents": extents,
    }
    raw["class_logits"][..., -1] = 120  # so sure that a float32 has no score for the others
    raw["boxes"][:, 0, 3:5] = objects.boxes
    for image, row, label in [(0, 3, 1), (0, 4, 2), (1, 3, 3)]:
        raw["class_logits"][image, 0, row] = 40 * np.eye(6)[label] - 20 * (row - 3)
    terms = model.loss_terms(wanted, raw)
    assert all(0 <= float(x) < 1e-5 for x in terms.values())
    found = {name: np.asarray(x) for name, x in model.decode(raw, (64, 64)).items()}
    np.testing.assert_array_equal(found["count"], [2, 1])
    order = np.argsort(found["labels"][0, :2])
    np.testing.assert_allclose(found["boxes"][0, order], wanted["boxes"][0], atol=1e-4)
    np.testing.assert_allclose(found["boxes"][1, 0], wanted["boxes"][1, 0], atol=1e-4)
    assert (found["labels"][0, 2:] == -1).all() and not found["boxes"][0, 2:].any()


def test_detections_are_the_published_ones():
    """Every query once, with its best class, even where no object is more probable."""
    r = rule(2001, (2, 7, 4))
    boxes = np.concatenate([0.5 + 0.35 * r[..., :2], 0.3 + 0.2 * r[..., 2:]], axis=-1)
    raw = {
        "class_logits": tf.constant(3 * rule(2000, (2, 1, 7, 6)), tf.float32),
        "boxes": tf.constant(boxes[:, None], tf.float32),
        "extents": tf.constant([[480.0, 640.0], [427.0, 640.0]]),
    }
    model = registry.create("detr-test")
    # On a canvas that is larger than the images: boxes may reach beyond an image, as published.
    found = {name: np.asarray(x) for name, x in model.decode(raw, (800, 800)).items()}
    scores = [
        [0.509770, 0.495286, 0.619286, 0.723644, 0.696827, 0.637429, 0.547263],
        [0.487585, 0.321189, 0.206364, 0.201039, 0.236110, 0.247238, 0.581800],
    ]
    labels = np.array([[0, 3, 4, 2, 1, 0, 0], [3, 0, 0, 4, 4, 4, 2]])
    order = np.argsort(-np.array(scores), axis=1)
    expected = np.take_along_axis(np.array(scores), order, axis=1)
    np.testing.assert_allclose(found["scores"], expected, atol=TOLERANCE)
    np.testing.assert_array_equal(found["labels"], np.take_along_axis(labels, order, axis=1))
    np.testing.assert_array_equal(found["count"], [7, 7])
    for image, query, box in [
        (0, 0, (206.582, 128.277, 310.797, 188.441)),
        (0, 1, (396.292, 276.507, 670.040, 468.579)),
        (1, 0, (280.712, 200.609, 568.581, 406.292)),
    ]:
        place = np.flatnonzero(order[image] == query)[0]
        np.testing.assert_allclose(found["boxes"][image, place], box, atol=1e-3)


def test_predictions_that_are_not_finite_are_no_detections():
    model = registry.create("detr-test")
    raw = {name: np.array(x) for name, x in model(images(1)).items()}
    raw["class_logits"][0, -1, 2, 1] = np.nan
    raw["boxes"][0, -1, 5, 2] = np.nan
    found = model.decode(raw, (64, 64))
    assert int(found["count"][0]) == model.config.queries - 2
    assert np.isfinite(found["boxes"]).all() and np.isfinite(found["scores"]).all()


def test_odd_sizes_and_more_objects_than_queries_train():
    model = registry.create("detr-test", image_size=(61, 83), queries=3, dropout=0.2)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), run_eagerly=True)
    corner = np.random.default_rng(0).uniform(0, 40, (2, 5, 2))
    wanted = {
        "boxes": np.concatenate([corner, corner + 15], axis=-1).astype(np.float32),
        "labels": np.array([[0, 1, 2, 3, 4], [1, -1, -1, -1, -1]], np.int32),
    }
    logs = model.fit(images(2, (61, 83)), wanted, batch_size=2, epochs=2, verbose=0).history
    assert set(logs) == {"class_loss", "box_loss", "giou_loss", "loss"}
    assert all(np.isfinite(values).all() for values in logs.values())
    assert model.detect(images(1, (40, 90)))["boxes"].shape == (1, 3, 4)


def test_half_precision_finds_the_same_extents_and_boxes_in_float32():
    canvas = images(2)
    canvas[1, 40:] = registry.create("detr-test").pad_value
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = registry.create("detr-test")
    finally:
        keras.config.set_dtype_policy("float32")
    raw = model(canvas)
    np.testing.assert_array_equal(raw["extents"], [[64, 64], [40, 64]])
    dtypes = {name: keras.backend.standardize_dtype(x.dtype) for name, x in raw.items()}
    assert dtypes == {"class_logits": "float16", "boxes": "float32", "extents": "float32"}
    assert {v.dtype for v in model.trainable_variables} == {"float32"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 18}, "width must be a multiple of 4 and of heads=2, got 18"),
        ({"queries": 0}, "queries must be at least 1, got 0"),
        ({"temperature": 0.5}, "temperature must be at least 1, got 0.5"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1"),
        ({"loss": {"box_cost": -1}}, "loss.box_cost must be at least 0"),
        ({"level": 6}, "level"),
    ],
)
def test_wrong_keys_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        registry.config("detr-test", **changes)


def test_the_recipe_for_coco_keeps_the_published_schedule():
    path = catalog.path("detr/r50_coco")
    recipe = recipes.load_recipe(path)
    train = recipe.train
    assert recipe.model_config() == registry.config("detr-r50")
    assert (train.optimizer, train.momentum, train.weight_decay) == ("adamw", 0.9, 1e-4)
    assert (train.decayed, train.rates) == (".*", (("^backbone", 0.1),))
    assert (train.learning_rate, train.learning_rate_batch, train.warmup_epochs) == (1e-4, 0, 0)
    assert (train.num_epochs, train.decay_epochs, train.batch_size) == (500, (400,), 64)
    assert (train.clip, train.clip_gradients_norm, train.ema_decay) == ("global", 0.1, 0)


# --- the published nets ---

REAL = {
    "r50": {
        "C5": ((1.127166, 0.667088, 0.255326, 0.675801), 613.648813, 2.1614460),
        "logits": ((1.304380, 1.443839, 0.560905, 2.250932, -0.920336, -0.871848), 127.441845),
        "last_logits": (1.061293, 1.252289, 0.542221, 2.274625),
        "boxes": ((0.462192, 0.180873, 0.595176, 0.675215), 14.591545, 0.4803025),
        "last_box": (0.476773, 0.174905, 0.641865, 0.634347),
        "auxiliary": ((3.364655, 1.434254, 0.174533), 160.309676),
    },
    "r50-dc5": {
        "C5": ((1.127166, 1.541811, 0.667088, 0.508940), 1292.225609, 2.2513880),
        "logits": ((1.491606, 1.354374, 0.537161, 2.095202, -0.786120, -0.824156), 126.557019),
        "last_logits": (1.649325, 1.238531, 0.458548, 2.235311),
        "boxes": ((0.458089, 0.191376, 0.596590, 0.648793), 14.360081, 0.4735960),
        "last_box": (0.444809, 0.177314, 0.617025, 0.653899),
        "auxiliary": ((3.323294, 1.408167, 0.224770), 159.180260),
    },
    "r101": {
        "C5": ((3.584467, 10.597301, 10.021572, 10.704542), 1540.086228, 5.7036047),
        "logits": ((1.598889, 0.678947, 0.409908, 3.462696, -0.501033, 0.356740), 144.804894),
        "last_logits": (1.460413, 0.799353, 0.348092, 3.600357),
        "boxes": ((0.461276, 0.184974, 0.511783, 0.662563), 13.890019, 0.4591974),
        "last_box": (0.474430, 0.189643, 0.510068, 0.677671),
        "auxiliary": ((2.109695, 0.811270, -0.568065), 157.248374),
    },
    "r101-dc5": {
        "C5": ((3.584467, 7.329161, 10.597301, 8.640268), 3099.800335, 5.7121424),
        "logits": ((1.732113, 0.389597, 0.510201, 3.409009, -0.329457, 0.335461), 149.020755),
        "last_logits": (1.486555, 0.601934, 0.302406, 3.530879),
        "boxes": ((0.484372, 0.195027, 0.526250, 0.671719), 14.081265, 0.4663969),
        "last_box": (0.485741, 0.181099, 0.525026, 0.661726),
        "auxiliary": ((2.450632, 1.079916, -0.522579), 157.995315),
    },
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * ("101" in name)) for name in REAL]
)
def test_the_published_nets_predict_what_is_published(name):
    model = registry.create(f"detr-{name}", image_size=(64, 96))
    keys = published(model)
    assert len(keys) == (713 if "101" in name else 458)
    fill(model)
    canvas = np.zeros((2, 3, 64, 96))
    canvas[0], canvas[1, :, :60, :61] = 2 * rule(3000, (3, 64, 96)), 2 * rule(3001, (3, 60, 61))
    maps = model.backbone(canvas.transpose(0, 2, 3, 1).astype(np.float32), training=False)
    expected = REAL[name]
    # Relative: values are up to some hundred.
    (c5,) = (np.transpose(x, (0, 3, 1, 2)) for x in maps.values())
    np.testing.assert_allclose(c5.ravel()[:4], expected["C5"][0], rtol=1e-5)
    assert np.linalg.norm(c5) == pytest.approx(expected["C5"][1], rel=1e-6)
    assert c5.mean() == pytest.approx(expected["C5"][2], rel=1e-6)

    raw = model.predictions({**maps, "extents": tf.constant([[64.0, 96.0], [60.0, 61.0]])})
    logits, boxes = raw["class_logits"], raw["boxes"]
    check(logits[:, -1], *expected["logits"])
    np.testing.assert_allclose(logits[1, -1, 99, :4], expected["last_logits"], atol=TOLERANCE)
    check(boxes[:, -1], *expected["boxes"])
    np.testing.assert_allclose(boxes[1, -1, 99], expected["last_box"], atol=TOLERANCE)
    check(logits[:, 0], *expected["auxiliary"])
