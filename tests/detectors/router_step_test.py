"""Tests of training a dynamic detector: both detectors first, then the router alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

# Cascades of every kind; the last has shared heads and masks.
KINDS = [
    "dy-efficientdet-test",
    "dy-yolov7-test",
    pytest.param("dy-faster-rcnn-test", marks=pytest.mark.slow),
    pytest.param("dy-mask-rcnn-test", marks=pytest.mark.slow),
]


def _batch(count=4, seed=0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 64, 64, 3)).astype("uint8")
    corners = random.uniform(0, 30, (count, 3, 2))
    sides = random.uniform(8, 30, (count, 3, 2))
    labels = random.integers(0, 3, (count, 3)).astype("int32")
    labels[1:, 2] = -1
    targets = {
        "boxes": np.concatenate([corners, corners + sides], -1).astype("float32"),
        "labels": labels,
        "is_crowd": np.zeros((count, 3), bool),
        "masks": random.integers(0, 2, (count, 3, 28, 28)).astype("uint8"),
    }
    return images, targets


def _rows(batch, rows):
    images, targets = batch
    return images[rows], {name: values[rows] for name, values in targets.items()}


@pytest.fixture(scope="module")
def cascade(make):
    def get(name="dy-efficientdet-test", **keys):
        if name == "dy-efficientdet-test":
            keys |= {"first.max_level": 5, "second.max_level": 5}
        return make(name, num_classes=3, **keys)

    return get


def _compiled(model, optimizer):
    # A single step: its graph would take longer to make. `common_test` trains with graphs.
    model.compile(optimizer=optimizer, run_eagerly=True)
    return model


@pytest.mark.parametrize("name", ["efficientdet-test", "yolov7-test", "fcos-nano"])
def test_losses_per_image_are_those_of_the_image_alone(cascade, name):
    model = cascade(name, image_size=(64, 64))
    images, targets = _batch()
    raw = model(images)
    found = np.asarray(model.losses_per_image(targets, raw))
    assert found.shape == (4,)
    for i in range(4):
        _, one = _rows((images, targets), slice(i, i + 1))
        terms = model.loss_terms(one, {k: v[i : i + 1] for k, v in raw.items()})
        expected = sum(float(term) for term in terms.values())
        assert found[i] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_the_joint_step_sums_the_losses_of_both_detectors(cascade, name):
    # A Swin drops branches at random, but not if it computes them twice.
    calm = {"first.gradient_checkpointing": True} if "mask" in name else {}
    model = _compiled(cascade(name, weight_decay=0.0, **calm), keras.optimizers.SGD(0.0))
    batch = _batch()
    logs = model.train_on_batch(*batch, return_dict=True)
    model.optimizer.iterations.assign(0)  # which chooses samples of proposals
    raw = model(batch[0], training=True)
    expected = {
        f"{role}_{name}": float(value)
        for role in ("first", "second")
        for name, value in model.heads_of(role).loss_terms(batch[1], raw[role]).items()
    }
    assert logs.pop("loss") == pytest.approx(sum(logs.values()), rel=1e-5)
    assert logs == pytest.approx(expected, rel=2e-3)
    trained = {v.path for v in model.trainable_variables}
    assert not any("/router/" in path for path in trained)
    assert any("/fusion/" in path for path in trained)
    assert model.threshold == 1.0


@pytest.mark.parametrize(
    "name", ["dy-efficientdet-test", pytest.param("dy-mask-rcnn-test", marks=pytest.mark.slow)]
)
def test_the_router_step_changes_the_router_alone(cascade, name):
    model = cascade(name, step="router", weight_decay=0.0)
    before = {v.path: np.asarray(v) for v in model.weights}
    _compiled(model, keras.optimizers.Adam(0.01))
    assert len(model.trainable_variables) == 4
    model.train_on_batch(*_batch())
    for variable in model.weights:
        is_equal = np.array_equal(variable, before[variable.path])
        assert is_equal != ("/router/" in variable.path), variable.path
    assert model.threshold == 0.5


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_teaches_what_its_images_teach_one_by_one(cascade, name):
    batch = _batch(4)
    results = {}
    for size in (1, 4):
        parts = [_rows(batch, slice(i, i + size)) for i in range(0, 4, size)]
        model = cascade(name, step="router", weight_decay=0.0)
        losses = []
        for images, targets in parts:
            raw = model(images, training=True)
            loss = model.compute_loss(images, targets, raw)
            losses.append(float(loss))
        results[size] = (sum(losses), [np.asarray(v) for v in model.run_variables])
    assert results[4][0] == pytest.approx(results[1][0], rel=1e-5)
    for mine, theirs in zip(results[4][1], results[1][1], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_measuring_leaves_the_record_alone(cascade):
    model = _compiled(cascade(step="router", weight_decay=0.0), "sgd")
    model.train_on_batch(*_batch())
    before = [np.asarray(v) for v in model.run_variables]
    logs = model.test_on_batch(*_batch(), return_dict=True)
    for variable, value in zip(model.run_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert logs["offset"] == pytest.approx(float(before[2]))
    assert int(before[1]) == 4


def test_the_router_learns_who_gains(cascade, monkeypatch):
    """Half of the images gain from the second detector: these, and only these, become hard."""
    model = cascade(step="router", weight_decay=0.0, **{"router_loss.offset": "none"})
    images, targets = _batch(8)
    images[:4] //= 4  # the dark ones
    sign = tf.Variable(1.0)
    gains = np.repeat(np.float32([1.0, -1.0]), 4)
    monkeypatch.setattr(
        model, "losses_of_paths", lambda targets, raw: (sign * gains, np.zeros(8, np.float32))
    )
    model.compile(optimizer=keras.optimizers.Adam(0.02))
    model.optimizer.build(model.trainable_variables)
    changed = [*model.weights, *model.run_variables, *model.optimizer.variables]
    start = [np.asarray(v) for v in changed]
    for hard in (0, 1):
        sign.assign([1.0, -1.0][hard])
        for variable, value in zip(changed, start, strict=True):
            variable.assign(value)
        for _ in range(30):
            model.train_on_batch(images, targets)
        easiness = np.asarray(model(images)["easiness"]).reshape(2, 4)
        assert easiness[hard].max() < easiness[1 - hard].min()


def test_weights_of_the_joint_step_start_the_router_step(cascade, tmp_path):
    joint = cascade(weight_decay=0.0)
    joint.save_weights(tmp_path / "joint.weights.h5")
    router = cascade(step="router", weight_decay=0.0)
    for variable in router.weights:
        variable.assign(0 * variable)
    router.load_weights(tmp_path / "joint.weights.h5")
    for mine, theirs in zip(router.weights, joint.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
