"""Tests of measurements that several share."""

import numpy as np
import pytest

from tfdet import registry
from tfdet.data import sources
from tfdet.evaluation import coco, sharing


class _Once(sharing.Alone):
    """One process, whose function to detect is traced once for all measurements of a model."""

    def __init__(self):
        self._function = None

    def on_replicas(self, detect, specs):
        self._function = self._function or super().on_replicas(detect, specs)
        return self._function


class _Workers:
    """Workers of one test, one after the other: the first are run for what they gather."""

    def __init__(self, count, once=None):
        self.count, self.once, self.given = count, once, {}

    def worker(self, index):
        return _Worker(self, index)


class _Worker(sharing.Alone):
    def __init__(self, workers, index):
        self._workers, self._calls = workers, 0
        self.shard = (index, workers.count)

    def on_replicas(self, detect, specs):
        return self._workers.once.on_replicas(detect, specs)

    def gather(self, content):
        call, self._calls = self._calls, self._calls + 1
        given = self._workers.given.setdefault(call, {})
        given[self.shard[0]] = content
        # Before all have given theirs, what is returned is of no use but has the right form.
        return [given.get(i, content) for i in range(self.shard[1])]


@pytest.fixture(scope="module", params=["efficientdet-test", "mask-rcnn-test", "caddet-test"])
def measured(request):
    """A model, what it was measured on, and the measurement by one process."""
    model = registry.create(request.param, num_classes=5)
    dataset, once = sources.open_dataset("shapes:val:9"), _Once()
    evaluation = coco.Evaluation(model, dataset, 2, once)
    return model, dataset, once, evaluation, evaluation.run()


def _evaluate(model, dataset, workers):
    """What the last of some workers comes to, which has what all others gathered."""
    for index in range(workers.count):
        evaluation = coco.Evaluation(model, dataset, 2, workers.worker(index))
        evaluator = evaluation.run()
    return evaluation, evaluator


@pytest.mark.parametrize("count", [2, 7])
def test_workers_come_to_the_numbers_of_one_bit_by_bit(measured, count):
    model, dataset, once, alone, expected = measured
    evaluation, found = _evaluate(model, dataset, _Workers(count, once))
    assert found.detections() == expected.detections()
    assert found.detections() or model.is_dynamic  # a CADDet that was never trained finds nothing
    assert found.result() == expected.result()
    assert evaluation.costs == alone.costs
    assert set(evaluation.routes) == set(alone.routes)
    for name, values in alone.routes.items():
        np.testing.assert_array_equal(evaluation.routes[name], values)


def test_a_process_without_a_batch_gives_no_rows():
    workers = _Workers(2)
    sharing.gathered(workers.worker(0), {"x": np.arange(3)})
    found = sharing.gathered(workers.worker(1), {})
    assert found["x"].tolist() == [0, 1, 2]


def test_batches_are_grouped_by_the_number_of_replicas():
    assert list(sharing.groups(range(5), 2)) == [[0, 1], [2, 3], [4]]
