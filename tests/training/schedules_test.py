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
    assert float(make()(step)) == pytest.approx(rate, rel=1e-4, abs=1e-8)


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


@pytest.mark.parametrize("name", ["cosine", "stepwise", "polynomial", "constant"])
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
