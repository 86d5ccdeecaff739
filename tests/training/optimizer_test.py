import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import config
from tfdet.errors import UserError
from tfdet.training import optimizer as optimizers


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


def test_zero_norm_clips_nothing():
    gradient = np.array([300.0, 400.0], np.float32)
    moves, _ = step([gradient], clip_gradients_norm=0.0)
    np.testing.assert_array_equal(moves[0], gradient)


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


def test_biases_may_have_a_rate_of_their_own():
    settings = config.TrainConfig(
        momentum=0.9, schedule="constant", learning_rate=0.1, warmup_epochs=0, bias_factor=2.0
    )
    optimizer = optimizers.make_optimizer(settings, steps_per_epoch=10)
    plain = keras.optimizers.SGD(0.1, momentum=0.9)
    names = ("kernel", "bias", "gamma", "beta")
    moved = [keras.Variable(np.zeros(2, np.float32), name=name) for name in names]
    slow = [keras.Variable(np.zeros(2, np.float32), name=name) for name in names]
    gradients = [keras.ops.convert_to_tensor(np.array([0.3, -0.4], np.float32))] * 4
    for _ in range(3):
        optimizer.apply(gradients, moved)
        plain.apply(gradients, slow)
    for ours, theirs, factor in zip(moved, slow, (1, 2, 1, 2), strict=True):
        np.testing.assert_allclose(ours, factor * np.array(theirs), rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "nesterov"])
def test_routers_may_have_a_learning_rate_of_their_own(name):
    settings = {"optimizer": name, "momentum": 0.0, "schedule": "constant", "warmup_epochs": 0}
    moves = []
    for factor in (1.0, 2.5):
        chosen = config.TrainConfig(learning_rate=0.1, router_factor=factor, **settings)
        optimizer = optimizers.make_optimizer(chosen, steps_per_epoch=10)
        with keras.name_scope("router_1_0"):
            router = keras.Variable(np.zeros(2, np.float32), name="score")
        other = keras.Variable(np.zeros(2, np.float32), name="kernel")
        optimizer.build([router, other])
        for _ in range(2):
            gradients = [keras.ops.convert_to_tensor([1.0, -2.0])] * 2
            optimizer.apply(gradients, [router, other])
        moves.append((router.numpy(), other.numpy()))
    np.testing.assert_allclose(moves[1][0], 2.5 * moves[0][0], rtol=1e-5)
    np.testing.assert_array_equal(moves[1][1], moves[0][1])
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.router_factor == 2.5


def test_a_rate_of_routers_that_are_not_there_is_refused():
    with pytest.raises(UserError, match="router_factor=2 does nothing"):
        step([np.ones(1, np.float32)], router_factor=2.0)


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
    apply = tf.function(lambda gradient: optimizer.apply([gradient], [variable]))
    values = []
    for gradient in gradients:
        apply(tf.constant(gradient))
        values.append(variable.numpy())
    return np.stack(values)
