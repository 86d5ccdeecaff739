"""Workers of Ray do what one process does."""

import concurrent.futures
import multiprocessing
import os
import signal
import sys

import pytest

from tests import ray_cluster
from tests.nas import small_search
from tfdet.errors import UserError
from tfdet.nas import search, workers
from tfdet.nas.evaluator import Evaluator, Job, prepare_process


def test_without_ray_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'tfdet\[ray\]'"):
        workers.import_ray()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    root = tmp_path_factory.mktemp("detectors")
    small_search.write_detector(root / "base", small_search.BASE)
    small_search.write_detector(root / "teacher", small_search.LARGER)
    short = "search.candidates=3,search.frozen=0,train.deterministic=true"
    return small_search.recipe(root / "base", root / "teacher", short)


class Killing:
    """Kills a worker in each generation."""

    def __init__(self, recipe):
        self.workers = workers.RayWorkers(recipe, 2)
        self.left = list(self.workers.processes)

    def look_at(self, jobs):
        yield from self.workers.look_at(self._killing(list(jobs)))

    def _killing(self, jobs):
        yield from jobs
        # One worker asks for more, so that the other is still busy, or has just become free.
        if len(jobs) > 1 and self.left:
            os.kill(self.left.pop(), signal.SIGKILL)


def search_alone(recipe, folder):
    prepare_process(recipe)
    return search.search(recipe, folder, lambda: workers.ThisProcess(Evaluator(recipe)))


@pytest.mark.slow
def test_two_workers_give_the_rows_of_one_process_although_one_is_killed(recipe, tmp_path):
    pytest.importorskip("ray", reason="ray, an optional extra, is not installed")
    # A process of its own: threads and determinism are set before the first sum.
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        alone = pool.submit(search_alone, recipe, tmp_path / "one").result()
    killing = Killing(recipe)
    try:
        together = search.search(recipe, tmp_path / "two", lambda: killing)
    finally:
        killing.workers.close()
    assert len(killing.left) < 2  # the kill was one
    assert small_search.facts(together) == small_search.facts(alone)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", r"there is no Ray cluster at 127.0.0.1:1 \(.*refused\); start one"),
        ("nowhere.invalid:6379", "there is no Ray cluster at nowhere.invalid:6379 "),
        ("127.0.0.1:66666", "there is no Ray cluster at 127.0.0.1:66666 "),
        ("head", "--ray_address must be host:port, such as head:6379, got head"),
    ],
)
def test_a_cluster_that_is_not_there_is_told_at_once(recipe, address, message):
    pytest.importorskip("ray", reason="ray, an optional extra, is not installed")
    with pytest.raises(UserError, match=message):
        workers.RayWorkers(recipe, 2, address)


def base_from_cluster(recipe, address):
    found = workers.RayWorkers(recipe, 1, address)
    (outcome,) = found.look_at([Job(0, 0)])
    found.close()
    return outcome.candidate.ap


@pytest.mark.slow
def test_workers_of_a_cluster_look_at_candidates(recipe, monkeypatch):
    pytest.importorskip("ray", reason="ray, an optional extra, is not installed")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    spawn = multiprocessing.get_context("spawn")  # Ray reads such variables once a process
    with ray_cluster.started() as address, concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
        assert pool.submit(base_from_cluster, recipe, address).result() > 0
