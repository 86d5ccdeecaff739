import contextlib
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdet
from tfdet import additions, config
from tfdet.errors import UserError
from tfdet.recipes import catalog
from tfdet.training import optimizer as optimizers
from tfdet.training import schedules


def step(gradients, **changes):
    """Applies one step at rate 1 without momentum; returns the moves and the optimizer."""
    settings = config.TrainConfig(
        momentum=0.0, schedule="constant", learning_rate=1.0, warmup_epochs=0, **changes
    )
    optimizer = optimizers.make_optimizer(settings, steps_per_epoch=10)
    variables = [keras.Variable(np.zeros_like(g)) for g in gradients]
    optimizer.build(variables)
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
    return [-v.numpy() for v in variables], optimizer


def test_each_gradient_is_clipped_and_then_all_together():
    long = np.array([30.0, 40.0], np.float32)  # norm 50 -> 10
    short = np.array([3.0, 4.0], np.float32)  # norm 5 stays
    moves, _ = step([long, short])
    both = np.sqrt(10.0**2 + 5.0**2)
    np.testing.assert_allclose(moves[0], long / 50 * 10 * 10 / both, rtol=1e-6)
    np.testing.assert_allclose(moves[1], short * 10 / both, rtol=1e-6)


def test_small_gradients_are_left_alone():
    gradients = [np.array([0.3, 0.4], np.float32), np.array([1.0], np.float32)]
    moves, _ = step(gradients)
    for move, gradient in zip(moves, gradients, strict=True):
        np.testing.assert_array_equal(move, gradient)


@pytest.mark.parametrize("clip", ["each_and_global", "global"])
def test_zero_norm_clips_nothing(clip):
    gradient = np.array([300.0, 400.0], np.float32)
    moves, _ = step([gradient], clip_gradients_norm=0.0, clip=clip)
    np.testing.assert_array_equal(moves[0], gradient)


@pytest.mark.parametrize("scale", [1.0, 0.1, 1e-9])
def test_the_global_norm_is_clipped_as_pytorch_does(scale):
    gradients = [scale * np.array(g, np.float32) for g in ([30.0, 40.0], [3.0, 4.0])]
    moves, optimizer = step(gradients, clip="global")
    norm = scale * np.sqrt(50.0**2 + 5.0**2)
    factor = min(1.0, 10.0 / (norm + 1e-6))
    for found, gradient in zip(moves, gradients, strict=True):
        np.testing.assert_allclose(found, factor * gradient, rtol=1e-6)
    assert float(optimizer.gradient_norm.numpy()) == pytest.approx(norm)


def test_gradient_norm_is_that_before_clipping():
    _, optimizer = step([np.array([30.0, 40.0], np.float32), np.array([0.0], np.float32)])
    assert float(optimizer.gradient_norm.numpy()) == pytest.approx(50.0)


def test_zero_gradients_do_not_become_nan():
    moves, _ = step([np.zeros(2, np.float32)])
    np.testing.assert_array_equal(moves[0], np.zeros(2))


def test_loss_scaling_undoes_the_scale_before_clipping():
    gradient = np.array([3.0, 4.0], np.float32)
    moves, optimizer = step([gradient * 2.0**15], mixed_precision="float16")
    np.testing.assert_allclose(moves[0], gradient)
    assert float(optimizer.gradient_norm.numpy()) == pytest.approx(5.0)


def test_loss_scaling_skips_an_overflow():
    moves, optimizer = step([np.array([np.inf, 1.0], np.float32)], mixed_precision="float16")
    np.testing.assert_array_equal(moves[0], np.zeros(2))
    assert float(optimizer.dynamic_scale.numpy()) == 2.0**14


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_optimizers_survive_serialization(name):
    optimizer = optimizers.make_optimizer(config.TrainConfig(optimizer=name), 10)
    saved = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(saved)
    assert again.get_config() == optimizer.get_config()
    assert again.clip_norm == 10.0


def move(names, **changes):
    """Moves of variables with these paths and equal gradients in two steps; and the optimizer."""
    settings = config.TrainConfig(
        **{"schedule": "constant", "learning_rate": 0.1, "warmup_epochs": 0, **changes}
    )
    optimizer = optimizers.make_optimizer(settings, steps_per_epoch=10, root="model")
    variables = make_variables(names, np.ones(2, np.float32))
    optimizer.build(variables)
    for _ in range(2):
        optimizer.apply([keras.ops.convert_to_tensor([0.3, -0.4])] * len(names), variables)
    return [1 - v.numpy() for v in variables], optimizer


def make_variables(paths, value):
    variables = []
    for path in paths:
        *scopes, name = path.split("/")
        with contextlib.ExitStack() as stack:
            for scope in scopes:
                stack.enter_context(keras.name_scope(scope))
            variables.append(keras.Variable(value, name=name))
    return variables


OPTIMIZERS = ["sgd", "adam", "adamw", "nesterov"]
PATHS = (
    "model/backbone/conv/kernel",
    "model/backbone/conv/bias",
    "model/backbone/norm/gamma",
    "model/neck/backbone_like/kernel",
    "model/head/norm/beta",
    "adapter/kernel",  # of a wrapper
)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_factors_of_all_rules_that_match_multiply_the_rate(name):
    rates = (("^backbone", 0.1), ("(bias|beta)$", 2.0), ("^adapter/kernel$", 4.0))
    # Small moves from weights of 1, so that two steps are nearly linear in the rate.
    settings = {"optimizer": name, "learning_rate": 1e-3}
    plain, _ = move(PATHS, **settings)
    moved, optimizer = move(PATHS, rates=rates, **settings)
    for ours, theirs, factor in zip(moved, plain, (0.1, 0.2, 0.1, 1, 2, 4), strict=True):
        np.testing.assert_allclose(ours, factor * theirs, rtol=2e-3)
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    assert [tuple(rule) for rule in again.rates] == list(rates) and again.root == "model"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_rule_is_the_same_as_another_learning_rate(name):
    settings = {"optimizer": name, "weight_decay": 0.5 if name in ("adamw", "nesterov") else 0.0}
    by_rule, _ = move(["kernel"], rates=(("kernel", 0.25),), **settings)
    by_rate, _ = move(["kernel"], learning_rate=0.025, **settings)
    np.testing.assert_allclose(by_rule, by_rate, rtol=1e-6)


def test_in_a_wrapper_the_path_is_still_that_in_the_detector():
    model = tfdet.create("fcos-test")
    settings = config.TrainConfig(additions={"gamma_l1": 1e-5}, rates=(("^backbone/", 0.5),))
    wrapped = additions.wrapped(model, settings.additions, seed=0)
    assert wrapped is not model
    optimizer = optimizers.make_optimizer(settings, 10, model.name)
    optimizer.build(wrapped.trainable_variables)
    for variable in wrapped.trainable_variables:
        rate = 0.5 if variable.path.startswith("fcos-test/backbone/") else 1.0
        assert optimizer.rate_of(variable, 1.0) == rate, variable.path


@pytest.mark.parametrize("expression", ["rooter", "^model/backbone"])
def test_a_rule_that_matches_nothing_is_refused_with_what_paths_begin_with(expression):
    with pytest.raises(UserError) as caught:
        move(PATHS, rates=(("kernel", 1.0), (expression, 2.0)))
    assert str(caught.value) == (
        f"train.rates: {expression!r} matches no variable that is trained; their paths begin with "
        "adapter, backbone, head, neck"
    )


@pytest.mark.parametrize("name", ["adamw", "nesterov"])
def test_decay_is_of_the_variables_that_are_chosen(name):
    settings = {"optimizer": name, "weight_decay": 0.5, "learning_rate": 0.01}
    without, _ = move(PATHS, **{**settings, "weight_decay": 0.0})
    kernels, _ = move(PATHS, **settings)
    everything, optimizer = move(PATHS, decayed=".*", **settings)
    for path, a, b, c in zip(PATHS, without, kernels, everything, strict=True):
        assert (b > a).all() if path.endswith("kernel") else (b == a).all(), path
        assert (c > a).all(), path
    assert type(optimizer).from_config(optimizer.get_config()).decayed == ".*"
    with pytest.raises(UserError, match=r"train\.decayed: .scales. matches no variable"):
        move(PATHS, decayed="scales", **settings)


def test_adamw_steps_are_those_of_pytorchs_groups():
    """Decay, then Adam, both at the rate of the variable's group; in float64."""
    rates = (("^backbone", 0.1),)
    moved, _ = move(PATHS[:1], optimizer="adamw", weight_decay=0.2, rates=rates)
    value, first, second = np.ones(2), np.zeros(2), np.zeros(2)
    gradient, rate = np.array([0.3, -0.4]), 0.1 * 0.1
    for t in (1, 2):
        value -= rate * 0.2 * value
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        root = np.sqrt(second / (1 - 0.999**t)) + 1e-8
        value -= rate * first / (1 - 0.9**t) / root
    np.testing.assert_allclose(moved[0], 1 - value, rtol=1e-4)


def test_a_model_that_was_saved_with_an_optimizer_of_old_keys_loads():
    optimizer = optimizers.make_optimizer(config.TrainConfig(), 10)
    saved = optimizer.get_config()
    del saved["rates"], saved["root"], saved["clip"]
    again = optimizers.SGD.from_config({**saved, "bias_factor": 2.0, "router_factor": 1.0})
    assert again.rates == [["(bias|beta)$", 2.0]] and again.clip == "each_and_global"
    assert optimizers.SGD.from_config({**saved, "bias_factor": 1.0}).rates == []


class BiasFactor(optimizers.SGD):
    """What `bias_factor` was before `rates`: gradients are multiplied, in one go with clipping."""

    def _all_reduce_sum_gradients(self, grads_and_vars):
        reduced = super(optimizers.ClippedGradients, self)._all_reduce_sum_gradients(grads_and_vars)
        gradients, variables = zip(*reduced, strict=True)
        squares = tf.stack([2 * tf.cast(tf.nn.l2_loss(g), tf.float32) for g in gradients])
        names = [v.name.partition(":")[0] for v in variables]
        factors = np.array([2.0 if n.endswith(("bias", "beta")) else 1.0 for n in names])
        if self.clip_norm > 0:
            each = self.clip_norm / tf.maximum(tf.sqrt(squares), self.clip_norm)
            together = tf.sqrt(tf.reduce_sum(squares * each**2))
            clip = each * self.clip_norm / tf.maximum(together, self.clip_norm)
            factors = clip * factors.astype(np.float32)
        factors = tf.unstack(tf.cast(factors, tf.float32))
        return [(g * f, v) for g, f, v in zip(gradients, factors, variables, strict=True)]


PUBLISHED = config.load_recipe(catalog.path("fcos/r50_1x_coco")).train


def with_and_before_rates(root, **changes):
    settings = dataclasses.replace(PUBLISHED, **changes)
    schedule = schedules.make_schedule(settings, 100)
    return (
        optimizers.make_optimizer(settings, 100, root),
        BiasFactor(schedule, momentum=0.9, clip_norm=settings.clip_gradients_norm),
    )


def trained_fcos(optimizer):
    """The weights of fcos-test after four steps."""
    keras.utils.set_random_seed(0)
    model = tfdet.create("fcos-test")
    model.compile(optimizer=optimizer, jit_compile=False)
    rng = np.random.default_rng(0)
    for _ in range(4):
        images = rng.uniform(0, 255, (2, *model.image_size, 3)).astype(np.float32)
        corners = rng.uniform(0, 40, (2, 3, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(8, 80, (2, 3, 2))], axis=-1)
        labels = rng.integers(0, model.num_classes, (2, 3)).astype(np.int32)
        model.train_on_batch(images, {"boxes": boxes.astype(np.float32), "labels": labels})
    return {v.path: v.numpy() for v in model.trainable_variables}


def test_the_published_recipe_of_fcos_doubles_the_rates_of_biases():
    assert PUBLISHED.rates == (("(bias|beta)$", 2.0),) and PUBLISHED.momentum == 0.9


@pytest.mark.slow
def test_rates_reproduce_the_published_bias_rule_of_fcos_to_the_bit():
    ours, before = map(trained_fcos, with_and_before_rates("fcos-test"))
    for path, value in before.items():
        np.testing.assert_array_equal(ours[path], value, err_msg=path)


def test_rates_are_the_former_bias_rule_to_the_bit_with_clipping_too():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(20, len(PATHS), 7)).astype(np.float32)
    ends = []
    for optimizer in with_and_before_rates("model", clip_gradients_norm=2.0):
        variables = make_variables(PATHS, np.ones(7, np.float32))
        optimizer.build(variables)
        apply = tf.function(optimizer.apply, autograph=False)
        for batch in gradients:
            apply(list(map(tf.constant, batch)))
        ends.append(np.stack([v.numpy() for v in variables]))
    np.testing.assert_array_equal(ends[0], ends[1])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_steps_are_those_of_keras(name, momentum):
    settings = config.TrainConfig(
        optimizer=name,
        momentum=momentum,
        schedule="constant",
        learning_rate=0.03,
        warmup_epochs=0,
        clip_gradients_norm=0.0,
        weight_decay=0.01 if name == "adamw" else 0.0,
    )
    ours = optimizers.make_optimizer(settings, steps_per_epoch=10)
    theirs = {
        "sgd": lambda: keras.optimizers.SGD(0.03, momentum),
        "adam": lambda: keras.optimizers.Adam(0.03, momentum),
        "adamw": lambda: keras.optimizers.AdamW(0.03, 0.01, momentum, epsilon=1e-8),
    }[name]()
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 5)).astype(np.float32)
    gradients = rng.normal(size=(6, 3, 5)).astype(np.float32)
    found, expected = (run_steps(optimizer, start, gradients) for optimizer in (ours, theirs))
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def run_steps(optimizer, start, gradients):
    """The variable after each step, in a graph."""
    variable = keras.Variable(start, name="kernel")
    optimizer.build([variable])
    apply = tf.function(lambda gradient: optimizer.apply([gradient], [variable]), autograph=False)
    values = []
    for gradient in gradients:
        apply(tf.constant(gradient))
        values.append(variable.numpy())
    return np.stack(values)


@pytest.mark.parametrize(
    ("ours", "keras_optimizer"),
    [
        (optimizers.SGD(0.1), keras.optimizers.SGD(0.1)),
        (optimizers.SGD(0.1, momentum=0.9), keras.optimizers.SGD(0.1, momentum=0.9)),
        (
            optimizers.SGD(0.1, momentum=0.9, nesterov=True),
            keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        ),
        (optimizers.Adam(0.1), keras.optimizers.Adam(0.1)),
        (
            optimizers.AdamW(0.1, weight_decay=0.2, decayed="."),
            keras.optimizers.AdamW(0.1, weight_decay=0.2),
        ),
    ],
    ids=["sgd", "momentum", "nesterov", "adam", "adamw"],
)
def test_fused_steps_are_those_of_keras(ours, keras_optimizer):
    random = np.random.default_rng(0)
    gradients = [random.normal(size=(3, 4)).astype(np.float32) for _ in range(5)]
    moved = []
    for optimizer in (ours, keras_optimizer):
        variable = keras.Variable(np.ones((3, 4), np.float32), name="kernel")
        optimizer.build([variable])
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient)], [variable])
        moved.append(variable.numpy())
    np.testing.assert_allclose(*moved, rtol=1e-5, atol=1e-6)


def test_amsgrad_is_refused():
    with pytest.raises(UserError, match="amsgrad"):
        optimizers.Adam(0.1, amsgrad=True)
