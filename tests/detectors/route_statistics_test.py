import numpy as np
import pytest

from tfdet.detectors.route_statistics import RouteStatistics


def test_batches_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    hard = rng.normal(4000, 60, 12).astype(np.float32)
    soft, budget = rng.random((2, 12)).astype(np.float32)
    gates = rng.random((12, 20)) < 0.1
    metric = RouteStatistics(20)
    for part in np.split(np.arange(12), [5, 6]):
        metric.update_state(hard[part], soft[part], budget[part], gates[part])
    found = {name: float(value) for name, value in metric.result().items()}
    expected = {
        "hard_cost": hard.mean(),
        "hard_cost_min": hard.min(),
        "hard_cost_max": hard.max(),
        "hard_cost_std": np.std(np.float64(hard)),
        "soft_cost": soft.mean(),
        "budget": budget.mean(),
        "dead_gates": 1 - gates.any(axis=0).mean(),
    }
    assert found == pytest.approx(expected, rel=1e-4)
    assert 0 < found["dead_gates"] < 1
    metric.reset_state()
    metric.update_state(hard[:1], soft[:1], budget[:1], gates[:1])
    assert float(metric.result()["hard_cost_std"]) == 0
    assert float(metric.result()["hard_cost_max"]) == pytest.approx(hard[0])
