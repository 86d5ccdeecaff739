"""Tests of measurements that several share."""

import numpy as np
import pytest

from tfdet import registry
from tfdet.data import sources
from tfdet.evaluation import coco, sharing


class _Workers:
    """Workers of one test, one after the other: the first are run for what they gather."""

    def __init__(self, count):
        self.count, self.given = count, {}

    def worker(self, index):
        return _Worker(self, index)


class _Worker(sharing.Alone):
    def __init__(self, workers, index):
        self._workers, self._calls = workers, 0
        self.shard = (index, workers.count)

    def gather(self, content):
        call, self._calls = self._calls, self._calls + 1
        given = self._workers.given.setdefault(call, {})
        given[self.shard[0]] = content
        # Before all have given theirs, what is returned is of no use but has the right form.
        return [given.get(i, content) for i in range(self.shard[1])]


def _evaluate(model, dataset, count):
    """What the last of some workers comes to, which has what all others gathered."""
    workers = _Workers(count)
    for index in range(count):
        evaluation = coco.Evaluation(model, dataset, 2, workers.worker(index))
        evaluator = evaluation.run()
    return evaluation, evaluator


@pytest.fixture(scope="module", params=["efficientdet-test", "mask-rcnn-test", "caddet-test"])
def model(request):
    return registry.create(request.param, num_classes=5)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_workers_come_to_the_numbers_of_one_bit_by_bit(model, count):
    dataset = sources.open_dataset("shapes:val:9")
    alone = coco.Evaluation(model, dataset, 2)
    expected = alone.run()
    evaluation, found = _evaluate(model, dataset, count)
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
