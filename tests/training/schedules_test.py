import math

import keras
import numpy as np
import pytest

from tfdet import config
from tfdet.training import schedules


def make(steps_per_epoch=100, **changes):
    return schedules.make_schedule(config.TrainConfig(**changes), steps_per_epoch)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.008),
        (50, 0.044),
        (99, 0.07928),
        (100, 0.0799978),
        (15000, 0.0397899),
        (29900, 0.0),
        (30000, 2.2e-6),
    ],
)
def test_cosine_gives_the_published_rates(step, rate):
    schedule = make(schedule="efficientdet_cosine")
    assert float(schedule(step)) == pytest.approx(rate, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize(
    ("epochs", "warmup"),
    [(1, 0.0), (1, 0.5), (2, 1.0), (2, 1.9), (5, 2.0), (10, 2.0), (300, 1.0)],
)
def test_half_cosine_falls_to_the_end_of_runs_of_any_length(epochs, warmup):
    schedule = make(4, num_epochs=epochs, warmup_epochs=warmup)
    steps, rising = 4 * epochs, int(4 * warmup)
    rates = np.array([float(schedule(step)) for step in range(rising, steps + 1)])
    assert rates[0] == pytest.approx(0.08) and np.all(np.diff(rates) < 0)
    assert rates[-1] == pytest.approx(0, abs=1e-7)
    assert float(schedule(rising + (steps - rising) / 2)) == pytest.approx(0.04)
    assert float(schedule(steps + 5)) == pytest.approx(0, abs=1e-7)


def test_half_cosine_shortens_a_warmup_that_is_longer_than_the_run():
    schedule = make(4, num_epochs=5, warmup_steps=1000)
    assert float(schedule(10)) == pytest.approx(0.08)
    assert float(schedule(19)) < 0.002


def test_rates_are_in_proportion_to_the_batch():
    small, large = make(batch_size=16), make(batch_size=64)
    for step in (0, 50, 100, 15000):
        assert float(small(step)) == pytest.approx(float(large(step)) / 4, rel=1e-5)


def test_warmup_rises_for_the_smallest_batch():
    rates = [float(make(batch_size=1)(step)) for step in range(0, 101, 10)]
    assert np.all(np.diff(rates) > 0)


@pytest.mark.parametrize(
    ("step", "rate"), [(100, 0.08), (19999, 0.08), (20000, 0.008), (25000, 0.0008)]
)
def test_stepwise_divides_by_ten_at_the_given_epochs(step, rate):
    assert float(make(schedule="stepwise")(step)) == pytest.approx(rate)


def test_polynomial_ends_at_zero():
    schedule = make(schedule="polynomial")
    assert float(schedule(15000)) == pytest.approx(0.08 * 0.5**0.9)
    assert float(schedule(30000)) == 0.0


def test_constant_stays_at_the_peak():
    schedule = make(schedule="constant", warmup_epochs=0)
    assert [float(schedule(step)) for step in (0, 29999)] == pytest.approx([0.08, 0.08])


@pytest.mark.parametrize(
    "name",
    ["half_cosine", "efficientdet_cosine", "epoch_cosine", "stepwise", "polynomial", "constant"],
)
def test_schedules_survive_serialization(name):
    schedule = make(schedule=name)
    saved = keras.saving.serialize_keras_object(schedule)
    again = keras.saving.deserialize_keras_object(saved)
    steps = [0, 70, 100, 21000, 30000]
    assert [float(again(s)) for s in steps] == [float(schedule(s)) for s in steps]


@pytest.mark.parametrize(("step", "rate"), [(0, 0.008), (99, 0.008), (100, 0.08)])
def test_a_constant_warmup_jumps(step, rate):
    schedule = make(schedule="constant", warmup="constant")
    assert float(schedule(step)) == pytest.approx(rate)


YOLO = {
    "batch_size": 16,
    "accumulate_batch": 64,
    "learning_rate": 0.01,
    "learning_rate_batch": 0,
    "optimizer": "nesterov",
    "momentum": 0.937,
    "momentum_warmup_init": 0.8,
    "warmup_init": 0.0,
    "bias_warmup_init": 0.1,
    "warmup_epochs": 3.0,
    "warmup_steps": 1000,
    "schedule": "epoch_cosine",
}


def yolo_rates(step, steps_per_epoch):
    """(rate, rate of biases, momentum, batches per update) in the published words."""
    epoch, warmup = step // steps_per_epoch, max(3 * steps_per_epoch, 1000)
    factor = (1 - math.cos(math.pi * epoch / 300)) / 2 * (0.1 - 1) + 1
    rate, bias_rate, momentum, batches = (
        float(np.interp(step, [0, warmup], ends))
        for ends in ([0, 0.01 * factor], [0.1, 0.01 * factor], [0.8, 0.937], [1, 4])
    )
    return rate, bias_rate, momentum, max(1, round(batches))


@pytest.mark.parametrize("steps_per_epoch", [250, 400])
def test_epoch_cosine_and_warmup_are_yolos(steps_per_epoch):
    settings = config.TrainConfig(**YOLO)
    rate = schedules.make_schedule(settings, steps_per_epoch)
    biases = schedules.make_schedule(settings, steps_per_epoch, settings.bias_warmup_init)
    momentum = schedules.make_momentum(settings, steps_per_epoch)
    batches = schedules.make_accumulation(settings, steps_per_epoch)
    for step in (0, 1, 249, 250, 400, 999, 1000, 1001, 1199, 1200, 1201, 50_000, 74_999):
        found = [float(schedule(step)) for schedule in (rate, biases, momentum, batches)]
        found[-1] = round(found[-1])
        assert found == pytest.approx(yolo_rates(step, steps_per_epoch), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("batch", "expected"), [(1, 64), (16, 4), (24, 3), (64, 1), (128, 1)])
def test_an_update_takes_as_many_batches_as_it_has_images_for(batch, expected):
    settings = config.TrainConfig(**{**YOLO, "batch_size": batch})
    assert schedules.batches_per_update(settings) == expected
    assert (schedules.make_accumulation(settings, 10) is None) == (expected == 1)
