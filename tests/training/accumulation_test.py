"""YOLO's and the router's optimizer rules against their simulation in NumPy."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import config
from tfdet.training import averaging, checkpoint
from tfdet.training import optimizer as optimizers

STEPS_PER_EPOCH = 40
SHAPES = {"kernel": (3, 2), "implicit": (4,), "gamma": (2,), "beta": (2,), "bias": (3,)}
YOLO = config.TrainConfig(
    batch_size=16,
    num_epochs=6,
    optimizer="nesterov",
    momentum=0.937,
    momentum_warmup_init=0.8,
    weight_decay=5e-3,
    accumulate_batch=64,
    learning_rate=0.01,
    learning_rate_batch=0,
    warmup_init=0.0,
    warmup_steps=100,
    bias_warmup_init=0.1,
    schedule="epoch_cosine",
    clip_gradients_norm=0.0,
    ema_decay=0.9999,
    ema_ramp="exponential",
)
ROUTER = config.TrainConfig(
    batch_size=1,
    num_epochs=6,
    optimizer="adamw",
    momentum=0.937,
    weight_decay=5e-3,
    accumulate_batch=8,
    learning_rate=1e-3,
    learning_rate_batch=0,
    warmup_init=0.0,
    warmup_steps=100,
    schedule="constant",
    clip_gradients_norm=0.0,
)


def make_variables():
    rng = np.random.default_rng(0)
    return [
        keras.Variable(rng.normal(size=shape).astype(np.float32), name=name)
        for name, shape in SHAPES.items()
    ]


def gradients_of(step):
    rng = np.random.default_rng(100 + step)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES.values()]


def compiled_apply(optimizer, variables):
    @tf.function(autograph=False)
    def apply(gradients):
        optimizer.apply(gradients, variables)

    return apply


class Simulation:
    """The rules in NumPy; `batch` takes the gradients of one batch."""

    def __init__(self, settings, variables):
        self.settings = settings
        self.values = {v.name: v.numpy().astype(np.float64) for v in variables}
        self.sums = {name: np.zeros(v.shape) for name, v in self.values.items()}
        self.first = {name: np.zeros(v.shape) for name, v in self.values.items()}
        self.second = {name: np.zeros(v.shape) for name, v in self.values.items()}
        self.step = self.pending = self.updates = 0

    def ramp(self, start, end):
        return float(np.interp(self.step, [0, self.settings.warmup_steps], [start, end]))

    def batch(self, gradients):
        settings = self.settings
        for name, gradient in zip(self.values, gradients, strict=True):
            self.sums[name] += gradient
        self.pending += 1
        target = settings.accumulate_batch / settings.batch_size
        if self.pending >= max(1, round(self.ramp(1, target))):
            self.updates += 1
            scale = settings.batch_size * max(round(target), 1) / settings.accumulate_batch
            (self.nesterov if settings.optimizer == "nesterov" else self.adamw)(scale)
            self.pending = 0
            self.sums = {name: np.zeros(v.shape) for name, v in self.values.items()}
        self.step += 1

    def nesterov(self, scale):
        epoch = self.step // STEPS_PER_EPOCH
        wave = (1 - np.cos(np.pi * epoch / self.settings.num_epochs)) / 2
        peak = self.settings.learning_rate * (1 + wave * (0.1 - 1))
        momentum = self.ramp(0.8, 0.937)
        for name, value in self.values.items():
            rate = self.ramp(0.1 if name in ("beta", "bias") else 0.0, peak)
            gradient = self.sums[name]
            if name == "kernel":
                gradient = gradient + self.settings.weight_decay * scale * value
            self.first[name] = momentum * self.first[name] + gradient
            self.values[name] = value - rate * (gradient + momentum * self.first[name])

    def adamw(self, scale):
        rate = self.ramp(0.0, self.settings.learning_rate)
        beta_1, beta_2 = self.settings.momentum, 0.999
        for name, value in self.values.items():
            if name == "kernel":
                value = value * (1 - rate * self.settings.weight_decay * scale)
            gradient = self.sums[name]
            self.first[name] = beta_1 * self.first[name] + (1 - beta_1) * gradient
            self.second[name] = beta_2 * self.second[name] + (1 - beta_2) * gradient**2
            mean = self.first[name] / (1 - beta_1**self.updates)
            square = self.second[name] / (1 - beta_2**self.updates)
            self.values[name] = value - rate * mean / (np.sqrt(square) + 1e-8)


@pytest.mark.parametrize("precision", ["", "float16"])
@pytest.mark.parametrize("settings", [YOLO, ROUTER], ids=["yolo", "router"])
def test_equal_to_the_simulation(settings, precision):
    settings = config.TrainConfig(**{**vars(settings), "mixed_precision": precision})
    variables = make_variables()
    simulation = Simulation(settings, variables)
    optimizer = optimizers.make_optimizer(settings, STEPS_PER_EPOCH)
    optimizer.build(variables)
    apply = compiled_apply(optimizer, variables)
    for step in range(240):
        gradients = gradients_of(step)
        scale = 1.0
        if precision:
            scale = np.float32(optimizer.dynamic_scale.numpy())
            if step % 50 == 7:  # An overflow: the batch counts as if it had never been.
                apply([np.full_like(g, np.inf) for g in gradients])
                continue
        apply([gradient * scale for gradient in gradients])
        simulation.batch(gradients)
        assert int(optimizer.iterations.numpy()) == simulation.updates
    assert 40 < simulation.updates < 120
    for variable, value in zip(variables, simulation.values.values(), strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_other_optimizers_step_with_the_sum_too(name):
    settings = config.TrainConfig(
        optimizer=name,
        batch_size=16,
        accumulate_batch=48,
        learning_rate=0.01,
        schedule="constant",
        warmup_epochs=0,
    )
    single = config.TrainConfig(**{**vars(settings), "accumulate_batch": 0})
    summed, whole = make_variables(), make_variables()
    ours = optimizers.make_optimizer(settings, STEPS_PER_EPOCH)
    plain = optimizers.make_optimizer(single, STEPS_PER_EPOCH)
    for update in range(4):
        parts = [gradients_of(3 * update + i) for i in range(3)]
        for gradients in parts:
            ours.apply([keras.ops.convert_to_tensor(g) for g in gradients], summed)
        plain.apply([keras.ops.convert_to_tensor(sum(g)) for g in zip(*parts, strict=True)], whole)
    for a, b in zip(summed, whole, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def test_nothing_moves_before_the_update_is_due():
    settings = config.TrainConfig(**{**vars(YOLO), "warmup_epochs": 0, "warmup_steps": 0})
    variables = make_variables()
    before = [v.numpy() for v in variables]
    optimizer = optimizers.make_optimizer(settings, STEPS_PER_EPOCH)
    for step in range(3):
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients_of(step)], variables)
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients_of(3)], variables)
    assert all(not np.array_equal(v, b) for v, b in zip(variables, before, strict=True))


@pytest.mark.parametrize("settings", [YOLO, ROUTER], ids=["yolo", "router"])
def test_optimizers_survive_serialization(settings):
    optimizer = optimizers.make_optimizer(settings, STEPS_PER_EPOCH)
    saved = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(saved)
    assert again.get_config() == optimizer.get_config()
    ours, theirs = make_variables(), make_variables()
    for step in range(60):
        gradients = [keras.ops.convert_to_tensor(g) for g in gradients_of(step)]
        optimizer.apply(gradients, ours)
        again.apply(gradients, theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def small_state(precision):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization()]
    )
    settings = config.TrainConfig(
        **{**vars(YOLO), "warmup_steps": 4, "warmup_epochs": 0, "mixed_precision": precision}
    )
    optimizer = optimizers.make_optimizer(settings, STEPS_PER_EPOCH)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, loss="mse")
    averages = averaging.MovingAverages(model, 0.9999, "exponential")
    return checkpoint.TrainingState(model, averages, checkpoint.Progress())


@pytest.mark.parametrize("precision", ["", "float16"])
def test_a_run_restored_between_two_updates_goes_on_bit_for_bit(precision):
    first, second = small_state(precision), small_state(precision)

    def train(state, step):
        rng = np.random.default_rng(step)
        state.model.train_on_batch(rng.normal(size=(8, 3)), rng.normal(size=(8, 4)))
        state.averages.update(step)

    for step in range(10):
        train(first, step)
    arrays, facts = first.capture()
    inner = getattr(first.model.optimizer, "inner_optimizer", first.model.optimizer)
    assert int(inner.pending.numpy()) > 0
    second.restore(arrays, facts)
    for step in range(10, 20):
        train(first, step)
        train(second, step)
    ours, theirs = first.capture()[0], second.capture()[0]
    assert sorted(ours) == sorted(theirs)
    for key, value in ours.items():
        np.testing.assert_array_equal(theirs[key], value, err_msg=key)


# In a process of its own: virtual devices must exist before TensorFlow starts.
_TWO_REPLICAS = """
import sys
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.training.accumulation_test import *
settings = config.TrainConfig(
    **{**vars({"yolo": YOLO, "router": ROUTER}[sys.argv[1]]), "mixed_precision": sys.argv[2]})
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    variables = make_variables()
    optimizer = optimizers.make_optimizer(settings, STEPS_PER_EPOCH)
    optimizer.build(variables)
simulation = Simulation(settings, variables)
@tf.function(autograph=False)
def step(gradients, scale):
    def run(gradients):
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        # Shares of the sum: a quarter and three quarters.
        share = scale * (0.25 + 0.5 * tf.cast(index, "float32"))
        optimizer.apply([g * share for g in gradients], variables)
    strategy.run(run, (gradients,))
for i in range(120):
    gradients = gradients_of(i)
    scale = optimizer.dynamic_scale.numpy() if sys.argv[2] else 1.0
    step([tf.constant(g) for g in gradients], tf.constant(scale, "float32"))
    simulation.batch(gradients)
for variable, value in zip(variables, simulation.values.values(), strict=True):
    for copy in variable.value.values:
        np.testing.assert_allclose(copy.numpy(), value, rtol=2e-5, atol=2e-5)
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["", "float16"])
@pytest.mark.parametrize("rules", ["yolo", "router"])
def test_two_replicas_step_as_one(rules, precision):
    command = [sys.executable, "-c", _TWO_REPLICAS, rules, precision]
    subprocess.run(command, check=True, timeout=240)
