import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.losses import ota_cases
from tfdet.errors import UserError
from tfdet.losses.box import iou_loss
from tfdet.losses.ota import OtaLossConfig, gains, ota_loss_terms, ota_losses_per_image
from tfdet.ops.anchor_grid import YOLOV7, YOLOV7_W6, AnchorGrid

GRID, SIZE = ota_cases.SMALL, ota_cases.SMALL_SIZE
BALANCE = (4.0, 1.0)
# As the check vectors: the published gains, whatever the image size.
FIXED = OtaLossConfig(rescale_gains=False)
SMALL = OtaLossConfig(balance=BALANCE)
UNIT = OtaLossConfig(1.0, 1.0, 1.0, rescale_gains=False, balance=BALANCE)


def published_terms(detector, config=FIXED):
    """Box, objectness and class loss and their sum, before they are multiplied by the batch."""
    raw = ota_cases.published_predictions(detector)
    targets = ota_cases.published_targets()
    terms = ota_loss_terms(targets, raw, YOLOV7, ota_cases.IMAGE_SIZE, config)
    values = [float(terms[name]) / 2 for name in ("box_loss", "object_loss", "class_loss")]
    return [*values, sum(values)]


@pytest.mark.parametrize(
    ("detector", "expected"),
    [(1, (0.084234, 0.118323, 0.061887, 0.264443)), (2, (0.069739, 0.123351, 0.070186, 0.263277))],
)
def test_losses_are_the_published_ones(detector, expected):
    assert published_terms(detector) == pytest.approx(expected, abs=1e-6)


def test_joint_loss_is_the_published_one():
    joint = np.add(published_terms(1), published_terms(2))
    assert joint == pytest.approx([0.153973, 0.241674, 0.132073, 0.527720], abs=1e-6)
    assert 2 * joint[-1] == pytest.approx(1.055439, abs=1e-6)


def test_loss_without_matching_is_the_published_one():
    """The objectness loss would be 0.138375 if the first of several candidates counted."""
    config = dataclasses.replace(FIXED, matching="all")
    expected = (0.115902, 0.136698, 0.071171, 0.323771)
    assert published_terms(1, config) == pytest.approx(expected, abs=1e-6)


def test_losses_per_image_give_the_published_steps_of_the_router():
    targets, size = ota_cases.published_targets(), ota_cases.IMAGE_SIZE
    first, second = (
        np.array(
            ota_losses_per_image(targets, ota_cases.published_predictions(k), YOLOV7, size, FIXED)
        )
        for k in (1, 2)
    )
    gap = first - second
    assert gap == pytest.approx([-0.000682, -0.042955], abs=1e-6)
    offset = np.array([gap[0], np.median(gap)])
    assert offset == pytest.approx([-0.000682, -0.0218186], abs=1e-6)
    steps = 0.6 * (first - offset / 2) + 0.4 * (second + offset / 2)
    assert steps == pytest.approx([0.272266, 0.231759], abs=1e-6)


def test_overlaps_are_the_published_ones():
    a, b = np.float32([[8, 7, 12, 13]]), np.float32([[8.5, 6.5, 13.5, 11.5]])
    found = [1 - float(iou_loss(a, b, kind)[0]) for kind in ("ciou", "iou")]
    assert found == pytest.approx([0.445638, 0.473684], abs=1e-6)


def known_objects(targets):
    """Boxes and labels of each image without padding and crowds."""
    is_known = (targets["labels"] >= 0) & ~targets["is_crowd"]
    pairs = zip(targets["boxes"], targets["labels"], is_known, strict=True)
    return zip(*((boxes[known], labels[known]) for boxes, labels, known in pairs), strict=True)


def slow_terms(targets, raw, judged=None, reach=0.5, top_k=10, matching="dynamic"):
    """Box, objectness and class loss, before gains and batch."""
    boxes, labels = known_objects(targets)
    matches = []
    for image in range(len(boxes)):
        candidates = ota_cases.slow_candidates(boxes[image], GRID, SIZE, reach)
        one = {name: value[image] for name, value in (judged or raw).items()}
        if matching == "all":
            matches.append([(candidate, candidate[-1]) for candidate in candidates])
        else:
            found = ota_cases.slow_matches(
                candidates, boxes[image], labels[image], one, GRID, SIZE, top_k
            )
            matches.append(found)
    return ota_cases.slow_losses(matches, boxes, labels, raw, GRID, SIZE, BALANCE)


@pytest.mark.parametrize("matching", ["dynamic", "all"])
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_the_slow_way(seed, matching):
    targets, raw = ota_cases.random_case(seed, slots=8)
    config = dataclasses.replace(UNIT, matching=matching)
    terms = ota_loss_terms(targets, raw, GRID, SIZE, config)
    expected = 3 * slow_terms(targets, raw, matching=matching)
    np.testing.assert_allclose([float(x) for x in terms.values()], expected, rtol=2e-5)


@pytest.mark.parametrize("seed", range(3))
def test_auxiliary_heads_are_matched_by_the_lead_over_more_cells(seed):
    targets, raw = ota_cases.random_case(seed, slots=8)
    auxiliary = ota_cases.random_predictions(np.random.default_rng(99), 3, 4)
    config = dataclasses.replace(UNIT, top_k=20)
    terms = ota_loss_terms(targets, raw, GRID, SIZE, config, auxiliary)
    lead = slow_terms(targets, raw, top_k=20)
    more = slow_terms(targets, auxiliary, judged=raw, reach=1.0, top_k=20)
    found = [float(x) for x in terms.values()]
    np.testing.assert_allclose(found, 3 * (lead + 0.25 * more), rtol=2e-5)


@pytest.mark.parametrize("matching", ["dynamic", "all"])
@pytest.mark.parametrize("seed", range(3))
def test_losses_per_image_are_those_of_the_image_alone(seed, matching):
    targets, raw = ota_cases.random_case(seed, slots=8)
    config = dataclasses.replace(SMALL, matching=matching)
    found = np.array(ota_losses_per_image(targets, raw, GRID, SIZE, config))
    for image in range(3):
        one, part = (
            {name: value[image : image + 1] for name, value in tree.items()}
            for tree in (targets, raw)
        )
        alone = ota_loss_terms(one, part, GRID, SIZE, config)
        np.testing.assert_allclose(found[image], float(sum(alone.values())), rtol=1e-5)


@pytest.mark.parametrize("known", [3, None])
def test_losses_per_image_are_known_to_be_a_number_for_each(known):
    """Routers are taught by them, in graphs of batches of a known and of an unknown size."""
    case = ota_cases.random_case(0, slots=8)

    def spec(value):
        return tf.TensorSpec([known, *value.shape[1:]], tf.as_dtype(value.dtype))

    specs = [{name: spec(value) for name, value in tree.items()} for tree in case]
    losses = tf.function(lambda *x: ota_losses_per_image(*x, GRID, SIZE, SMALL), autograph=False)
    found = losses.get_concrete_function(*specs).structured_outputs
    assert found.shape.as_list() == [known]


def loss_and_gradients(targets, raw, config=SMALL):
    raw = {name: tf.convert_to_tensor(value) for name, value in raw.items()}
    with tf.GradientTape() as tape:
        tape.watch(raw)
        terms = ota_loss_terms(targets, raw, GRID, SIZE, config)
        loss = tf.add_n(list(terms.values()))
    return terms, tape.gradient(loss, raw)


def gradients_of(term, targets, raw):
    raw = {name: tf.convert_to_tensor(value) for name, value in raw.items()}
    with tf.GradientTape() as tape:
        tape.watch(raw)
        loss = ota_loss_terms(targets, raw, GRID, SIZE, UNIT)[term]
    gradients = tape.gradient(loss, raw, unconnected_gradients="zero")
    return {name for name, value in gradients.items() if np.any(value)}


def test_each_term_teaches_its_own_predictions_only():
    targets, raw = ota_cases.random_case(0)
    assert gradients_of("box_loss", targets, raw) == {"box_codes"}
    assert gradients_of("object_loss", targets, raw) == {"object_logits"}
    assert gradients_of("class_loss", targets, raw) == {"class_logits"}


def test_gradients_are_those_of_finite_differences():
    targets, raw = ota_cases.random_case(1)
    config = dataclasses.replace(UNIT, matching="all")
    _, gradients = loss_and_gradients(targets, raw, config)
    rng = np.random.default_rng(0)
    for name in ("object_logits", "class_logits"):
        direction = rng.normal(size=raw[name].shape).astype(np.float32)
        moved = [
            float(sum(ota_loss_terms(targets, {**raw, name: value}, GRID, SIZE, config).values()))
            for value in (raw[name] + 0.01 * direction, raw[name] - 0.01 * direction)
        ]
        expected = float(np.sum(gradients[name] * direction))
        assert (moved[0] - moved[1]) / 0.02 == pytest.approx(expected, rel=2e-3)


def test_a_step_along_the_gradient_lowers_the_loss():
    targets, raw = ota_cases.random_case(2)
    terms, gradients = loss_and_gradients(targets, raw)
    moved = {name: raw[name] - 0.05 * gradients[name].numpy() for name in raw}
    after = ota_loss_terms(targets, moved, GRID, SIZE, SMALL)
    assert sum(map(float, after.values())) < sum(map(float, terms.values()))


@pytest.mark.parametrize("matching", ["dynamic", "all"])
@pytest.mark.parametrize("slots", [1, 5])
def test_images_without_objects_only_learn_that_there_are_none(slots, matching):
    _, raw = ota_cases.random_case(0)
    boxes = np.full((3, slots, 4), np.nan, np.float32)
    empty = {"boxes": boxes, "labels": np.full((3, slots), -1, np.int32)}
    config = dataclasses.replace(SMALL, matching=matching)
    terms, gradients = loss_and_gradients(empty, raw, config)
    assert float(terms["box_loss"]) == float(terms["class_loss"]) == 0
    assert float(terms["object_loss"]) > 0
    assert (gradients["object_logits"].numpy() > 0).all()
    assert not np.any(gradients["box_codes"]) and not np.any(gradients["class_logits"])
    per_image = np.array(ota_losses_per_image(empty, raw, GRID, SIZE, config))
    assert np.sum(per_image) == pytest.approx(float(terms["object_loss"]), rel=1e-5)


def test_objects_that_fit_no_anchor_or_one_level_give_finite_losses():
    _, raw = ota_cases.random_case(0, batch=2)
    for shape in ([0, 0, 1, 1], [10, 10, 19, 20], [0, 0, 96, 1]):
        targets = {"boxes": np.float32([[shape]] * 2), "labels": np.zeros((2, 1), np.int32)}
        terms, gradients = loss_and_gradients(targets, {k: v[:2] for k, v in raw.items()})
        assert np.isfinite([float(x) for x in terms.values()]).all()
        assert all(np.isfinite(gradient).all() for gradient in gradients.values())
        assert (float(terms["box_loss"]) > 0) == (shape == [10, 10, 19, 20])


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_wild_predictions_give_finite_losses_and_gradients(logit):
    targets, raw = ota_cases.random_case(3)
    wild = {name: np.full_like(value, logit) for name, value in raw.items()}
    terms, gradients = loss_and_gradients(targets, wild)
    assert np.isfinite([float(x) for x in terms.values()]).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


def test_one_class_is_learnt():
    targets, raw = ota_cases.random_case(4, classes=1)
    terms, gradients = loss_and_gradients(targets, raw)
    assert float(terms["class_loss"]) > 0
    assert np.isfinite(gradients["class_logits"]).all()


def test_label_smoothing_moves_the_aims():
    targets, raw = ota_cases.random_case(0)
    flipped = {**raw, "class_logits": -raw["class_logits"]}
    # Dynamic matches would depend on the logits.
    config = dataclasses.replace(UNIT, matching="all")
    smooth = dataclasses.replace(config, label_smoothing=0.2)
    yes, no, smoothed = (
        float(ota_loss_terms(targets, predicted, GRID, SIZE, settings)["class_loss"])
        for predicted, settings in ((raw, config), (flipped, config), (raw, smooth))
    )
    # The cross-entropy of x with 1 - y is that of -x with y.
    assert smoothed == pytest.approx(0.9 * yes + 0.1 * no, rel=1e-5)


def test_crowds_follow_the_config():
    targets, raw = ota_cases.random_case(0)
    assert targets["is_crowd"].any()
    without = {**targets, "labels": np.where(targets["is_crowd"], -1, targets["labels"])}
    del without["is_crowd"]
    skipped = ota_loss_terms(targets, raw, GRID, SIZE, SMALL)
    expected = ota_loss_terms(without, raw, GRID, SIZE, SMALL)
    kept = ota_loss_terms(targets, raw, GRID, SIZE, dataclasses.replace(SMALL, skip_crowd=False))
    assert {k: float(v) for k, v in skipped.items()} == {k: float(v) for k, v in expected.items()}
    assert float(kept["box_loss"]) != float(skipped["box_loss"])


def test_half_precision_predictions_give_a_float32_loss():
    targets, raw = ota_cases.random_case(0)
    raw = {name: value.astype(np.float16) for name, value in raw.items()}
    exact = {name: value.astype(np.float32) for name, value in raw.items()}
    terms = ota_loss_terms(targets, raw, GRID, SIZE, SMALL)
    expected = ota_loss_terms(targets, exact, GRID, SIZE, SMALL)
    for name, term in terms.items():
        assert term.dtype == tf.float32
        np.testing.assert_array_equal(term, expected[name])


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_compiles_together_with_its_gradient(jit_compile):
    targets, raw = ota_cases.random_case(0)
    terms, gradients = loss_and_gradients(targets, raw)
    step = tf.function(
        lambda raw: loss_and_gradients(targets, raw), jit_compile=jit_compile, autograph=False
    )
    compiled = step(raw)
    for name, term in terms.items():
        np.testing.assert_allclose(compiled[0][name], term, rtol=1e-4)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(compiled[1][name], gradient, rtol=1e-3, atol=1e-6)


def test_batches_of_any_size_share_one_graph():
    _, raw = ota_cases.random_case(0)
    targets, _ = ota_cases.random_case(0)
    specs = [
        {k: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for k, v in tree.items()}
        for tree in (targets, raw)
    ]
    loss = tf.function(
        lambda targets, raw: ota_losses_per_image(targets, raw, GRID, SIZE, SMALL),
        input_signature=specs,
        autograph=False,
    )
    whole = loss(targets, raw)
    part = loss(*({k: v[1:] for k, v in tree.items()} for tree in (targets, raw)))
    np.testing.assert_allclose(part, whole[1:], rtol=1e-6)


# In a process of its own: virtual devices must exist before TensorFlow starts.
_TWO_REPLICAS = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.losses.ota_test import *
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
targets, raw = ota_cases.random_case(0, batch=4)
whole, expected = loss_and_gradients(targets, raw)
split = lambda tree: strategy.experimental_distribute_values_from_function(
    lambda c: {k: tf.constant(v[2 * c.replica_id_in_sync_group :][:2]) for k, v in tree.items()})
@tf.function
def step(targets, raw):
    return strategy.run(loss_and_gradients, (targets, raw))
terms, gradients = step(split(targets), split(raw))
for name in whole:
    total = strategy.reduce("SUM", terms[name], axis=None)
    np.testing.assert_allclose(total, whole[name], rtol=1e-5)
for name in raw:
    parts = strategy.experimental_local_results(gradients[name])
    np.testing.assert_allclose(np.concatenate(parts), expected[name], rtol=1e-4, atol=1e-7)
"""


@pytest.mark.slow
def test_two_replicas_sum_to_the_whole_batch():
    subprocess.run([sys.executable, "-c", _TWO_REPLICAS], check=True, timeout=240)


_ON_JAX = """
import sys, jax, keras, numpy as np
from tfdet.losses.ota import OtaLossConfig, ota_loss_terms
from tfdet.ops.anchor_grid import AnchorGrid
assert keras.backend.backend() == "jax"
given = dict(np.load(sys.argv[1]))
raw = {name: given[name] for name in ("box_codes", "object_logits", "class_logits")}
targets = {name: given[name] for name in ("boxes", "labels", "is_crowd")}
grid = AnchorGrid((8, 16), (((10, 12), (24, 20)), ((30, 44), (52, 36))))
config = OtaLossConfig(balance=(4.0, 1.0))
loss = lambda raw: sum(ota_loss_terms(targets, raw, grid, (64, 96), config).values())
value, gradient = jax.jit(jax.value_and_grad(loss))(raw)
np.testing.assert_allclose(value, given["loss"], rtol=1e-5)
for name in raw:
    np.testing.assert_allclose(gradient[name], given["grad_" + name], rtol=1e-3, atol=1e-6)
"""


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="JAX is not installed")
def test_loss_and_gradient_are_the_same_on_jax(tmp_path):
    targets, raw = ota_cases.random_case(0)
    terms, gradients = loss_and_gradients(targets, raw)
    np.savez(
        tmp_path / "given.npz",
        loss=sum(terms.values()),
        **raw,
        **targets,
        **{f"grad_{name}": gradient for name, gradient in gradients.items()},
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", _ON_JAX, str(tmp_path / "given.npz")]
    subprocess.run(command, check=True, timeout=240, env=environment)


@pytest.mark.parametrize(
    ("grid", "side", "classes", "expected"),
    [
        (YOLOV7, 640, 80, (0.05, 0.7, 0.3)),
        (YOLOV7_W6, 1280, 80, (0.0375, 2.1, 0.225)),
        (YOLOV7, 320, 20, (0.05, 0.175, 0.075)),
    ],
)
def test_gains_are_rescaled_as_published(grid, side, classes, expected):
    assert gains(OtaLossConfig(), grid, (side, side), classes) == pytest.approx(expected)
    assert gains(FIXED, grid, (side, side), classes) == (0.05, 0.7, 0.3)


def test_round_trip_through_json():
    config = OtaLossConfig(matching="all", balance=(1.0, 2.0))
    assert OtaLossConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"matching": "hungarian"}, "got 'hungarian'"),
        ({"anchor_threshold": 1.0}, "anchor_threshold > 1"),
        ({"top_k": 0}, "top_k >= 1"),
        ({"label_smoothing": 1.0}, "label_smoothing < 1, got 1"),
        ({"box_gain": -1.0}, "box_gain >= 0, got -1"),
        ({"balance": (1.0, -1.0)}, "balance weights >= 0"),
    ],
)
def test_wrong_configs_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        OtaLossConfig(**arguments)


def test_levels_without_a_published_balance_ask_for_one():
    targets, raw = ota_cases.random_case(0)
    with pytest.raises(UserError, match=r"each of 2 levels, got \(\)"):
        ota_loss_terms(targets, raw, GRID, SIZE, OtaLossConfig())
    wide = AnchorGrid((8,), (GRID.anchors[0],))
    with pytest.raises(UserError, match=r"each of 1 levels, got \(4.0, 1.0\)"):
        ota_loss_terms(targets, raw, wide, SIZE, SMALL)
