"""Who looks at the candidates of a generation: this process, or workers of Ray."""

import logging
import os
import socket
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import tensorflow as tf

from tfdet import memory, records
from tfdet.errors import UserError, first_line
from tfdet.nas.evaluator import Evaluator, Job, Outcome, prepare_process
from tfdet.nas.pool_evaluator import PoolEvaluator
from tfdet.nas.search_recipe import SearchRecipe

# A worker that died is started again; a job that kills each of so many workers ends the search.
_RETRIES = 3
_CONNECT_SECONDS = 10


class Workers(Protocol):
    def look_at(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """The outcome of each job, in any order."""


def make_evaluator(recipe: SearchRecipe) -> Evaluator | PoolEvaluator:
    """What looks at a recipe's candidates. Mistakes in the recipe are reported here."""
    return PoolEvaluator(recipe) if recipe.search.space == "pool" else Evaluator(recipe)


class ThisProcess:
    """One candidate after the other."""

    def __init__(self, evaluator: Evaluator | PoolEvaluator):
        self._evaluator = evaluator

    def look_at(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        for job in jobs:
            yield self._evaluator.look_at(job)


class RayWorkers:
    """Several candidates at a time, each in a process of Ray.

    A worker that is killed is started again with the job that it had.

    Args:
        recipe: each worker reads the base, the teacher and the data that it names.
        count: workers.
        address: of a Ray cluster, whose machines find these files under the same names; "" for
            workers on this machine.
    """

    def __init__(self, recipe: SearchRecipe, count: int, address: str = ""):
        ray = import_ray()
        self._ray = ray
        connect(ray, count, address)
        worker = ray.remote(_Worker).options(
            num_cpus=1,
            num_gpus=_gpus_each(ray, count),
            max_restarts=-1,
            max_task_retries=_RETRIES,
        )
        plain = records.to_dict(recipe)
        self._actors = [worker.remote(plain) for _ in range(count)]
        self.processes = self._result(ray.get, [a.process.remote() for a in self._actors])

    def look_at(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        waiting = iter(jobs)
        running: dict[Any, Any] = {}
        for actor in self._actors:
            self._start(actor, waiting, running)
        while running:
            (ready,), _ = self._ray.wait(list(running), num_returns=1)
            actor = running.pop(ready)
            outcome = self._result(self._ray.get, ready)
            self._start(actor, waiting, running)  # before the outcome is written, which takes time
            yield Outcome(*outcome)

    def close(self) -> None:
        """Ends the workers."""
        self._ray.shutdown()

    def _start(self, actor: Any, waiting: Iterator[Job], running: dict[Any, Any]) -> None:
        job = next(waiting, None)
        if job is not None:
            running[actor.look_at.remote(job)] = actor

    def _result(self, get: Any, what: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return get(what)
        except errors.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from None
            raise
        except errors.RayActorError as error:
            raise UserError(
                f"a worker died {_RETRIES + 1} times with the same candidate "
                f"({first_line(error)}); is there memory for so many --workers? What was "
                "finished is kept: the same command resumes"
            ) from None


class _Worker:
    """A process of Ray that looks at candidates."""

    def __init__(self, recipe: dict[str, Any]):
        memory.keep_freed_memory()
        parsed = records.from_dict(SearchRecipe, recipe)
        prepare_process(parsed)
        self._evaluator = make_evaluator(parsed)

    def look_at(self, job: Job) -> Outcome:
        return self._evaluator.look_at(job)

    def process(self) -> int:
        return os.getpid()


def import_ray() -> Any:
    """The module `ray`, or a sentence that says how to get it."""
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UserError(
            f"several workers need Ray, which cannot be imported ({error}); install it with "
            "`pip install 'tfdet[ray]'`, or leave --workers and --ray_address out"
        ) from None
    return ray


def hide_gpus() -> None:
    """Leaves this machine's GPUs to the workers."""
    if tf.config.list_physical_devices("GPU"):
        tf.config.set_visible_devices([], "GPU")


def connect(
    ray: Any, count: int, address: str = "", runtime_env: dict[str, Any] | None = None
) -> None:
    """Connects to a Ray cluster with `count` CPUs; "" starts one on this machine."""
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if not address:
        # Without an address ray joins a cluster that it finds, and refuses a number of CPUs.
        local = {"num_cpus": count, "include_dashboard": False, "runtime_env": runtime_env}
        ray.init("local", **local, **quiet)
        return
    _check_reachable(address)
    try:
        ray.init(address=address, runtime_env=runtime_env, **quiet)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise UserError(
            f"the Ray cluster at {address} does not let us in ({first_line(error)}); if it wants a "
            "token, set RAY_AUTH_MODE=token and put the token into ~/.ray/auth_token"
        ) from None
    cores = int(ray.cluster_resources().get("CPU", 0))
    if cores < count:
        ray.shutdown()
        raise UserError(
            f"the Ray cluster at {address} has {cores} CPUs, {count} are asked for; ask for fewer"
        )


def _check_reachable(address: str) -> None:
    """Tells at once where nobody listens; Ray would try for minutes, and say nothing."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--ray_address must be host:port, such as head:6379, got {address}")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"there is no Ray cluster at {address} ({why}); start one with `ray start --head`, or "
            "leave --ray_address out"
        ) from None


def _gpus_each(ray: Any, count: int) -> float:
    """A GPU per worker; a share of one where there are fewer."""
    gpus = ray.cluster_resources().get("GPU", 0)
    return min(1.0, gpus / count)
