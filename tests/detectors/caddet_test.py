"""What is special in CADDet."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import registry
from tfdet.backbones.supernet import Supernet
from tfdet.detectors.caddet import CADDet
from tfdet.detectors.fcos import FCOS
from tfdet.errors import UserError

# The smallest grid, for tests that make models of their own.
GRID = {"layers": 2, "channels": (8, 10)}
ALL_NAMES = ["caddet-test", "caddet-retinanet-test", "caddet-packdet-test"]


def batch(size=64, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (2, size, size, 3)).astype(np.uint8)
    boxes = np.array([[[4, 6, 40, 44], [30, 20, 60, 62]], [[0, 0, 0, 0]] * 2], np.float32)
    labels = np.array([[1, 2], [-1, -1]], np.int32)
    return images, {"boxes": boxes, "labels": labels}


def names():
    return [name for name in registry.list_models() if "caddet" in name or "fpnlite" in name]


def test_the_published_names_are_registered():
    published = {"caddet-fcos", "caddet-retinanet", "caddet-fpnlite-fcos"}
    published |= {
        f"{kind}-fpnlite-{head}"
        for kind in ("mobilenet", "mobilenetv2")
        for head in ("fcos", "retinanet")
    }
    assert published <= set(names())


@pytest.mark.parametrize(
    ("name", "head"), [("caddet-test", "plain"), ("caddet-retinanet-test", "packed")]
)
def test_detections_have_the_cost_of_each_image(make, name, head):
    model = make(name, head=head)
    images, _ = batch()
    gates = np.asarray(model(images)["gates"])
    macs = np.asarray(model.detect(images)["macs"])
    expected = model.floor + model.cost.total * np.asarray(model.cost.hard(gates))
    np.testing.assert_allclose(macs, expected, rtol=1e-6)
    assert np.all(macs > model.floor) and np.all(macs <= model.floor + model.cost.total)


@pytest.mark.parametrize("size", [(61, 83), (40, 96)])
def test_odd_sizes_run(size):
    model = registry.create("caddet-test", image_size=size, supernet=GRID)
    assert np.isfinite(model.detect(np.zeros((1, 50, 90, 3), np.uint8))["boxes"]).all()


# `common_test` compares what is detected.
@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_NAMES)
def test_a_saved_model_comes_back_with_equal_outputs(name, tmp_path):
    model = registry.create(name)
    for variable in model.weights:
        variable.assign(variable + 0.01 * keras.random.normal(variable.shape, seed=1))
    model.threshold = 0.3
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.config == model.config
    assert again.threshold == pytest.approx(0.3)
    images, _ = batch()
    for key, values in model(images).items():
        np.testing.assert_array_equal(again(images)[key], values)


@pytest.fixture(scope="module")
def joined():
    """A detector that was made in Python, of a grid and what stands behind it."""
    config = registry.config("caddet-test")
    grid = Supernet(config.supernet, config.batch_norm, name="backbone")
    dense = FCOS(registry.config("fcos-test", neck="projection"), backbone=grid)
    model = CADDet(dense, name="caddet-test")
    model.build_variables()
    return model


def test_a_detector_with_a_grid_is_put_behind_it(make, joined):
    """The same as the registered one, which is made of one record, to the bit and to the name."""
    model, expected = joined, make("caddet-test")
    assert [v.path for v in model.weights] == [v.path for v in expected.weights]
    assert (model.loss_names, model.cost_ends) == (expected.loss_names, expected.cost_ends)
    for mine, theirs in zip(model.weights, expected.weights, strict=True):
        mine.assign(theirs)
    images, targets = batch()
    found, wanted = (m.detect(images, threshold=0.5) for m in (model, expected))
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)
    raw = model(images, training=True)
    assert float(model.compute_loss(images, targets, raw)) == float(
        expected.compute_loss(images, targets, expected(images, training=True))
    )
    with pytest.raises(UserError, match="is a Supernet, got EfficientNet"):
        CADDet(FCOS(registry.config("fcos-test")))


def test_an_efficientdet_stands_behind_the_grid():
    model = registry.create("caddet-packdet-test", dense={"name": "efficientdet-test"})
    images, targets = batch()
    assert set(model(images)) == {"class_logits", "box_codes", "gates"}
    assert {"box_loss", "global_loss", "path_loss"} <= set(model.loss_names)
    assert np.isfinite(float(model.compute_loss(images, targets, model(images, training=True))))
    least, most = model.cost_ends
    macs = np.asarray(model.detect(images)["macs"])
    assert np.all(macs > least) and np.all(macs <= most)


def test_a_detector_that_was_made_in_python_is_saved(joined, tmp_path):
    model = joined
    model.threshold = 0.3
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.config == model.config and again.threshold == pytest.approx(0.3)
    images, _ = batch()
    for key, values in model(images).items():
        np.testing.assert_array_equal(again(images)[key], values)


TERMS = {"class_loss", "box_loss", "centerness_loss", "global_loss", "path_loss"}
STATISTICS = {"hard_cost", "hard_cost_min", "hard_cost_max", "hard_cost_std"}
STATISTICS |= {"soft_cost", "budget", "dead_gates"}


@pytest.mark.parametrize(
    "strategy", [pytest.param("fixed", marks=pytest.mark.slow), "loss_aware", "scale_aware"]
)
def test_every_strategy_trains_and_the_first_epoch_is_free(strategy):
    # With some weights and levels the losses of both images are equal in rank.
    keras.utils.set_random_seed(0)
    loss = {"strategy": strategy, "scale_edges": [16.0, 40.0, 48.0], "budget": 0.1}
    model = registry.create("caddet-test", routing_loss=loss, supernet=GRID, **{"loss.reach": 8.0})
    # Two steps: their graphs would take longer to make. `common_test` trains with graphs.
    model.compile(optimizer=keras.optimizers.SGD(1e-3), run_eagerly=True)
    images, targets = batch()
    history = model.fit(
        images, targets, batch_size=2, epochs=2, verbose=0, validation_data=(images, targets)
    ).history
    assert set(history) >= TERMS | STATISTICS
    assert all(np.isfinite(values).all() for values in history.values())
    for name in ("global_loss", "path_loss"):
        assert history[name][0] == 0 and history[name][1] > 0
    # The first image has objects in two intervals, the second has none; the first loss of all has
    # the middle budget.
    budget = {"fixed": [0.1, 0.1], "scale_aware": [0.15, 0.15]}.get(strategy)
    if budget is not None:
        assert history["budget"] == pytest.approx(budget)
    else:
        assert history["budget"][0] == pytest.approx(0.25)
        assert [int(v) for v in model.run_variables[1:]] == [4]
    assert history["hard_cost_min"][0] >= 1e-9 * model.floor


def test_the_losses_of_routes_are_those_of_the_equations(make):
    free = {"free_epochs": 0, "budget": 0.1, "scale_edges": (16.0, 40.0, 48.0)}
    model = make("caddet-test", routing_loss=free)
    images, targets = batch()
    raw = model(images, training=True)
    terms = model.loss_terms(targets, raw)
    gates = np.asarray(raw["gates"], np.float64)
    soft = np.zeros(2)
    for number, spec in enumerate(model.config.supernet.nodes):
        own = gates[:, spec.gates]
        soft += own.max(axis=1) * model.cost.nodes[number] + own @ model.cost.paths[spec.gates]
    budgets = np.array([0.2, 0.1])
    expected = np.mean((soft / model.cost.total - budgets) ** 2)
    assert float(terms["global_loss"]) == pytest.approx(expected, rel=1e-4)
    cosine = gates[0] @ gates[1] / np.linalg.norm(gates[0]) / np.linalg.norm(gates[1])
    wanted = 0.5 * (0.95 - 0.6) + 0.6  # two of four intervals are absent in both
    assert float(terms["path_loss"]) == pytest.approx(
        (cosine - wanted) ** 2 / 2, rel=1e-3, abs=1e-7
    )


def test_gradients_of_the_routes_losses_reach_every_open_router(make):
    model = make("caddet-test", routing_loss={"free_epochs": 0})
    images, targets = batch()
    biases = [router.score.bias for router in model.backbone.routers]
    with tf.GradientTape() as tape:
        raw = model(images, training=True)
        terms = model.loss_terms(targets, raw)
        routes = terms["global_loss"] + terms["path_loss"]
    gradients = tape.gradient(routes, [v.value for v in biases])
    gates = np.asarray(raw["gates"])
    for spec, gradient in zip(model.config.supernet.nodes, gradients, strict=True):
        is_live = ((gates[:, spec.gates] > 0) & (gates[:, spec.gates] < 1)).any(axis=0)
        assert np.all(np.asarray(gradient)[is_live] != 0), spec


def test_the_loss_is_the_weighted_sum_of_equation_9():
    keys = {"free_epochs": 0, "scale_edges": (16.0, 40.0, 48.0)}
    images, targets = batch()
    found = []
    for weights in ((1.0, 1.0), (3.0, 0.25)):
        keras.utils.set_random_seed(0)
        loss = {**keys, "global_weight": weights[0], "local_weight": weights[1]}
        model = registry.create("caddet-test", routing_loss=loss, supernet=GRID)
        raw = model(images, training=True)
        terms = {k: float(v) for k, v in model.loss_terms(targets, raw).items()}
        total = float(model.compute_loss(images, targets, raw))
        detection = sum(terms[k] for k in ("class_loss", "box_loss", "centerness_loss"))
        decay = float(model._l2_loss())
        expected = detection + terms["global_loss"] + terms["path_loss"] + decay
        assert total == pytest.approx(expected, rel=1e-5)
        found.append(terms)
    plain, weighted = found
    assert weighted["global_loss"] == pytest.approx(3 * plain["global_loss"], rel=1e-5)
    assert weighted["path_loss"] == pytest.approx(plain["path_loss"] / 4, rel=1e-5)
    assert weighted["class_loss"] == pytest.approx(plain["class_loss"], rel=1e-5)


def test_costs_may_be_measured_in_multiply_adds():
    images, targets = batch()
    found = []
    for unit in (0.0, 1e5):
        keras.utils.set_random_seed(0)
        loss = {"free_epochs": 0, "unit": unit, "whole": "network"}
        model = registry.create("caddet-test", routing_loss=loss, supernet=GRID)
        raw = model(images, training=True)
        found.append(float(model.loss_terms(targets, raw)["global_loss"]))
    assert model.whole == model.cost.total + model.floor
    assert found[1] == pytest.approx(found[0] * (model.whole / 1e5) ** 2, rel=1e-4)


def test_detection_alone_moves_the_routers_through_their_gates(make):
    """With the heads' predictions as the only loss: the gates are factors of the features."""
    model = make("caddet-test")
    images, targets = batch()
    biases = [router.score.bias for router in model.backbone.routers]
    with tf.GradientTape() as tape:
        raw = model(images, training=True)
        loss = model.loss_terms(targets, raw)["class_loss"]
    gradients = tape.gradient(loss, [v.value for v in biases])
    gates = np.asarray(raw["gates"])
    for spec, gradient in zip(model.config.supernet.nodes, gradients, strict=True):
        is_live = ((gates[:, spec.gates] > 0) & (gates[:, spec.gates] < 1)).any(axis=0)
        assert np.isfinite(gradient).all()
        assert np.all(np.asarray(gradient)[is_live] != 0), spec


def test_without_routers_all_images_cost_the_same():
    model = registry.create("caddet-test", supernet={**GRID, "routers": False})
    assert not {"global_loss", "path_loss"} & set(model.loss_names)
    images, targets = batch()
    macs = model.detect(images)["macs"]
    np.testing.assert_allclose(macs, model.floor + model.cost.total, rtol=1e-6)
    model.compile(optimizer="sgd", run_eagerly=True)
    assert np.isfinite(model.train_on_batch(images, targets, return_dict=True)["loss"])


@pytest.fixture(scope="module")
def half():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return registry.create("caddet-test", routing_loss={"free_epochs": 0}, supernet=GRID)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("bias", [1.5, -1.0])
def test_half_precision_trains(half, bias):
    """Also where every gate is closed, and so every norm of a route 0."""
    model = half
    for router in model.backbone.routers:
        router.score.bias.assign(np.full(router.score.bias.shape, bias))
        if bias < 0:
            router.score.kernel.assign(np.zeros(router.score.kernel.shape))
    images, targets = batch()
    raw = model(images)
    assert raw["gates"].dtype.name == "float32"
    model.compile(optimizer=keras.optimizers.SGD(0.01), run_eagerly=True)
    for _ in range(2):
        logs = model.train_on_batch(images, targets, return_dict=True)
        assert all(np.isfinite(x) for x in logs.values())
    assert all(np.isfinite(np.asarray(v, np.float32)).all() for v in model.weights)


def test_the_threshold_closes_gates_without_a_new_graph(make):
    model = make("caddet-test")
    images, _ = batch()
    macs = []
    for threshold in (0.0, 0.7, 1.0):
        model.threshold = threshold
        found = model.predict(images, verbose=0)
        gates = found["gates"]
        assert not gates[(gates > 0) & (gates < threshold)].size
        macs.append(found["macs"].mean())
        dense = model.decode(_dense(model, images, threshold), model.image_size)
        np.testing.assert_allclose(found["gates"], dense["gates"], atol=1e-4)
        np.testing.assert_allclose(found["scores"], dense["scores"], atol=1e-4)
    # In between a closed gate changes what later gates see, and may open one of them.
    assert macs[2] == min(macs) < macs[0]
    with pytest.raises(UserError, match="threshold must be between 0 and 1"):
        model.threshold = 1.5


def _dense(model, images, threshold):
    maps = model.backbone(model.normalization(images), threshold=max(threshold, 1e-4))
    gates = maps.pop("gates")
    return {**model.head(model.neck(maps)), "gates": gates}
