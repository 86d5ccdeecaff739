"""Tests of the controller: single choices, and a simulated server under load."""

import numpy as np
import pytest

from tfdet.detectors.calibration import EFFORTS, Calibration
from tfdet.serving.server import effort_controller
from tfdet.serving.server.effort_controller import BatchTimes, EffortController

LIMIT_MS = 150.0
TIMES = BatchTimes(most=8, least=(9.0, 60.0), all=(17.0, 115.0))
# Images per second that full batches give.
CAPACITY_AT_0, CAPACITY_AT_1 = 8000 / 60, 8000 / 115


def _controller():
    return EffortController(TIMES, EFFORTS, LIMIT_MS)


def _choose(ages, floors=None):
    return _controller().choose(ages, np.zeros(len(ages)) if floors is None else floors)


def test_times_are_those_that_were_measured_at_the_corners():
    assert TIMES.of(1, 0.0) == 9.0
    assert TIMES.of(8, 0.0) == 60.0
    assert TIMES.of(1, 1.0) == 17.0
    assert TIMES.of(8, 1.0) == 115.0
    assert TIMES.of(1, 0.5) == 13.0
    assert BatchTimes(1, (9.0, 9.0), (17.0, 17.0)).of(1, 0.5) == 13.0


def test_with_time_to_spare_the_effort_is_1():
    assert _choose([]) == 1.0
    assert _choose([0.0]) == 1.0
    assert _choose([20.0, 10.0, 0.0]) == 1.0


def test_the_effort_falls_with_the_queue_and_with_the_ages():
    by_length = [_choose([0.0] * count) for count in range(1, 40)]
    assert by_length == sorted(by_length, reverse=True)
    assert by_length[0] == 1.0
    assert by_length[-1] == 0.0
    by_age = [_choose([age] * 6) for age in range(0, 150, 10)]
    assert by_age == sorted(by_age, reverse=True)
    assert 0 < by_age[2] < 1
    assert by_age[-1] == 0.0


def test_the_time_of_the_effort_that_is_chosen_fits_and_the_next_would_not():
    ages = [30.0, 20.0, 10.0, 5.0, 0.0, 0.0, 0.0, 0.0]
    effort = _choose(ages)
    assert 0 < effort < 1
    planned = effort_controller._PLANNED * LIMIT_MS
    assert TIMES.of(8, effort) + 30 <= planned < TIMES.of(8, effort + 0.01) + 30


def test_images_that_ask_for_more_leave_less_for_the_others():
    ages = [20.0] * 6
    free = _choose(ages)
    bound = _choose(ages, [1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    assert 0 < bound < free
    # What is bound above the common effort takes its time from it.
    np.testing.assert_allclose((2 + 4 * bound) / 6, free, atol=0.02)


def test_a_slower_machine_than_measured_gets_less_effort():
    controller = _controller()
    before = controller.choose([10.0] * 6, np.zeros(6))
    for _ in range(100):
        controller.observe(8, 0.5, 1.5 * float(TIMES.of(8, 0.5)))
    assert controller.factor == pytest.approx(1.5, abs=0.01)
    assert controller.choose([10.0] * 6, np.zeros(6)) < before


def test_hopeless_is_who_would_be_late_with_the_least_effort():
    controller = _controller()
    accepted = [waiting for waiting in range(60) if not controller.is_hopeless(waiting)]
    assert accepted == list(range(accepted[-1] + 1))
    # Two batches take 120 ms, a single image after them 9 more than is accepted.
    assert accepted[-1] == 15


def test_shares_are_those_of_the_calibrations_times():
    table = Calibration.from_scores(np.linspace(0.1, 0.9, 50), (1.0, 3.0), (10.0, 30.0))
    shares = effort_controller.shares_of(table)
    np.testing.assert_allclose(shares, EFFORTS, atol=0.02)
    # Without times, or where they were measured the wrong way round, costs are taken.
    np.testing.assert_allclose(
        effort_controller.shares_of(table.with_latency((5.0, 4.0))), shares, atol=1e-9
    )


def _simulate(rate, slowness=1.0, seconds=60, seed=0):
    """Latencies, efforts and the part refused of a server with Poisson arrivals, in no real time.

    Args:
        rate: images per second.
        slowness: how much longer batches take than was measured.
    """
    random = np.random.default_rng(seed)
    controller = _controller()
    arrivals = np.cumsum(random.exponential(1000 / rate, int(rate * seconds))).tolist()[::-1]
    total, waiting, now, refused = len(arrivals), [], 0.0, 0
    latencies, efforts = [], []

    def arrive(until, running=0):
        nonlocal refused
        while arrivals and arrivals[-1] <= until:
            time = arrivals.pop()
            if controller.is_hopeless(len(waiting) + running):
                refused += 1
            else:
                waiting.append(time)

    while arrivals or waiting:
        if not waiting:
            now = max(now, arrivals[-1]) if arrivals else now
            arrive(now)
            continue
        effort = controller.choose(now - np.array(waiting), np.zeros(len(waiting)))
        batch = waiting[:8]
        del waiting[:8]
        share = random.binomial(len(batch), effort) / len(batch)
        ms = slowness * float(TIMES.of(len(batch), share)) * random.lognormal(0, 0.1)
        controller.observe(len(batch), share, ms)
        arrive(now + ms, len(batch))
        now += ms
        latencies += [now - time for time in batch]
        efforts += [effort] * len(batch)
    return np.array(latencies), np.array(efforts), refused / total


@pytest.mark.parametrize("slowness", [1.0, 1.3])
@pytest.mark.parametrize("load", [0.3, 0.7, 1.0, 1.4, 1.9, 3.0])
def test_the_95th_percentile_stays_below_the_limit(load, slowness):
    latencies, _, _ = _simulate(load * CAPACITY_AT_1 / slowness, slowness)
    assert np.percentile(latencies, 95) < LIMIT_MS


def test_below_half_of_the_capacity_the_effort_is_1_and_none_is_refused():
    _, efforts, refused = _simulate(0.45 * CAPACITY_AT_1)
    assert np.mean(efforts == 1.0) > 0.98
    assert refused == 0


def test_load_lowers_the_effort_step_by_step():
    means = [_simulate(load * CAPACITY_AT_1)[1].mean() for load in (0.4, 0.8, 1.1, 1.5, 1.9)]
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.25


def test_little_is_refused_far_above_the_capacity_of_effort_1():
    _, _, refused = _simulate(1.5 * CAPACITY_AT_1)
    assert 1.5 * CAPACITY_AT_1 < CAPACITY_AT_0
    assert refused < 0.05
