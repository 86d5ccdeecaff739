"""What is special in a cascade of two YOLOv7."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import profiling, registry
from tfdet.errors import UserError


def batch():
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3)).astype(np.uint8)
    boxes = np.array([[[4, 6, 40, 44], [30, 20, 60, 62]], [[0, 0, 0, 0]] * 2], np.float32)
    return images, {"boxes": boxes, "labels": np.array([[1, 2], [-1, -1]], np.int32)}


def enlivened(model):
    """With features and predictions that spread as those of a trained one do."""
    random = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.6, 1.6, variable.shape))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(random.normal(0, 0.3, variable.shape))
        elif "/head/" in variable.path:
            variable.assign(random.normal(0, 1, variable.shape))
    return model


@pytest.fixture(scope="module")
def lively():
    return enlivened(registry.create("dy-yolov7-test"))


def small_x(**changes):
    size = {"variant": "x", "width": 1 / 32, "depth": 0.5}
    first, second = {"name": "yolov7-test", **size}, {"name": "yolov7-test", **size, **changes}
    return enlivened(registry.create("dy-yolov7-test", first=first, second=second))


@pytest.fixture(scope="module")
def borrowing():
    return small_x(borrows_p2=True)


@pytest.mark.parametrize("name", ["dy-yolov7", "dy-yolov7-x", "dy-yolov7-w6"])
def test_published_cascades_are_twice_the_same_and_only_x_borrows(name):
    config = registry.config(name)
    first, second = (config.part(role)[1] for role in ("first", "second"))
    assert first == registry.config(name.removeprefix("dy-"))
    assert second.borrows_p2 == (name == "dy-yolov7-x")
    assert {**vars(second), "borrows_p2": False} == vars(first)


def test_a_second_x_reads_the_first_ones_p2_where_it_borrows(borrowing):
    images, _ = batch()
    plain = small_x()
    for ours, theirs in zip(plain.weights, borrowing.weights, strict=True):
        ours.assign(theirs)
    taps = plain.first.taps(images)
    other = {**taps, "P2": np.zeros(taps["P2"].shape, np.float32)}
    added = plain.fusion(taps)
    found = {
        (model is borrowing, first is other): model.second.taps_after(images, first, added)
        for model in (plain, borrowing)
        for first in (taps, other)
    }
    for level in ("P1", "P2"):
        for x in found.values():
            np.testing.assert_array_equal(x[level], found[False, False][level])
    np.testing.assert_array_equal(found[False, True]["P3"], found[False, False]["P3"])
    for key in ((True, False), (True, True)):
        assert np.abs(np.asarray(found[key]["P3"] - found[False, False]["P3"])).max() > 1e-3
    assert np.abs(np.asarray(found[True, True]["P3"] - found[True, False]["P3"])).max() > 1e-3


def test_borrowing_needs_equal_widths():
    with pytest.raises(UserError, match="borrows_p2 needs a first detector with 16 channels"):
        registry.create("dy-yolov7-test", second={"width": 1 / 16, "borrows_p2": True})
    with pytest.raises(UserError, match="'x' and 'v7', not 'w6'"):
        registry.config("dy-yolov7-w6", **{"second.borrows_p2": True})


@pytest.mark.parametrize("kind", ["lively", "borrowing"])
def test_the_merged_cascade_detects_the_same(kind, request):
    model = request.getfixturevalue(kind)
    model.threshold = 0.25
    images, _ = batch()
    merged = model.for_inference()
    assert merged.threshold == 0.25 and merged.for_inference() is merged
    norms = (keras.layers.BatchNormalization,)
    assert not any(isinstance(layer, norms) for layer in merged._flatten_layers())
    found, expected = merged(images), model(images)
    for value, own in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(value, own, atol=1e-4)


def test_costs_are_those_of_the_merged_cascade(lively):
    model, inference = lively, lively.for_inference()
    merged = profiling.profile(inference)
    assert model.route_macs == merged.routes == inference.route_macs
    assert merged.routes["late"] < profiling.profile(model).routes["late"]


def test_it_trains_jointly():
    model = registry.create("dy-yolov7-test", num_classes=3)
    images, targets = batch()
    model.compile(optimizer=keras.optimizers.SGD(10.0), run_eagerly=True)
    assert not model.router.trainable_variables
    before = [np.asarray(v) for v in model.trainable_variables]
    logs = model.fit(images, targets, batch_size=2, epochs=1, verbose=0).history
    terms = {f"{role}_{name}_loss" for role in ("first", "second") for name in ("box", "object")}
    assert terms < set(logs)
    assert all(np.isfinite(values).all() for values in logs.values())
    for variable, value in zip(model.trainable_variables, before, strict=True):
        assert not np.array_equal(value, variable), variable.path


def test_it_survives_saving(borrowing, tmp_path):
    model = borrowing
    images, _ = batch()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.second.config == model.second.config
    expected = tf.nest.flatten(model(images))
    for value, own in zip(tf.nest.flatten(loaded(images)), expected, strict=True):
        np.testing.assert_allclose(value, own, atol=1e-5)
