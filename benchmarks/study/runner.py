"""Runs the arms of a study, each in a process of its own, one or a few at a time."""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from benchmarks import packdet, timing
from benchmarks.study import measure, rows
from benchmarks.study.plan import Arm, Study
from tfdet import config, records
from tfdet.errors import UserError
from tfdet.nas import workers
from tfdet.training import trained

_ROOT = pathlib.Path(__file__).parents[2]
_TIMED = 30


def choose(
    study: Study, arms: Sequence[str] | None = None, seeds: Sequence[int] | None = None
) -> list[tuple[str, int]]:
    """The (arm, seed) of some of a study's runs, with those whose models they use."""
    for name in arms or ():
        if name not in study.arms:
            raise UserError(
                f"study {study.name} has no arm {name!r}; {records.nearest(name, study.arms)}"
            )
    wanted = set(arms or study.arms)
    for name in reversed(study.arms):  # what an arm uses comes before it
        if name in wanted:
            wanted.update(study.arms[name].needs)
    chosen = [(a, s) for a, s in study.runs() if a in wanted and (not seeds or s in seeds)]
    if not chosen:
        raise UserError(f"study {study.name} has no such seeds; it has {list(study.seeds)}")
    return chosen


def run(
    study: Study,
    chosen: Sequence[tuple[str, int]],
    runs_dir: pathlib.Path,
    rows_dir: pathlib.Path,
    jobs: int = 1,
    ray_address: str = "",
) -> None:
    """Trains and measures what has no row yet, and adds the rows.

    Args:
        study: what there is.
        chosen: (arm, seed) of the runs, in their order.
        runs_dir: gets a folder per run; one whose training was killed resumes there.
        rows_dir: of the rows.
        jobs: how many runs at a time; each gets its part of the processors. One that starts from
            another waits for it.
        ray_address: host:port of a Ray cluster that the runs are for; "" for this machine.
    """
    launch = _launcher(jobs, ray_address)
    waiting = {one: f"[{i}/{len(chosen)}] {_words(study, *one)}" for i, one in enumerate(chosen, 1)}
    running: dict[tuple[str, int], _Run] = {}
    try:
        while waiting or running:
            for one, head in list(waiting.items()):
                needed = ((name, one[1]) for name in study.arms[one[0]].needs)
                if len(running) == jobs or any(x in waiting or x in running for x in needed):
                    continue
                del waiting[one]
                if _is_needed(study, *one, chosen, runs_dir, rows_dir):
                    running[one] = _Run(study, *one, runs_dir, head, launch)
                else:
                    print(f"{head}: done", flush=True)
            for one in [one for one, process in running.items() if process.has_ended()]:
                rows.add(study, running.pop(one).row(), rows_dir)
            time.sleep(0.1)
    finally:
        for process in running.values():
            process.kill()


def take_times(study: Study, runs_dir: pathlib.Path, rows_dir: pathlib.Path) -> None:
    """Gives the rows of a study their "ms": of each arm's network, frozen, with one image.

    The arms take turns, in this process, so that they can be compared.
    """
    found = rows.read(study, rows_dir)
    if all("ms" in row["values"] for row in found):
        return
    networks = {}
    for row in found:
        folder = _model_of(study.arms[row["arm"]], folder_of(runs_dir, row["arm"], row["seed"]))
        if row["arm"] not in networks and folder.is_dir():
            networks[row["arm"]] = packdet.network(trained.load_trained(folder, "last"))
    print(f"{study.name}: timing {len(networks)} networks in turns", flush=True)
    seconds = timing.interleaved(networks, _TIMED)
    for row in found:
        row["values"].pop("ms", None)
        if row["arm"] in seconds:
            row["values"]["ms"] = round(1e3 * seconds[row["arm"]], 3)
        rows.add(study, row, rows_dir)


def _words(study: Study, arm: str, seed: int) -> str:
    return f"{study.name}: {arm}, seed {seed}"


def folder_of(runs_dir: pathlib.Path, arm: str, seed: int) -> pathlib.Path:
    return runs_dir / f"{arm}_{seed}"


def _is_needed(
    study: Study,
    arm: str,
    seed: int,
    chosen: Sequence[tuple[str, int]],
    runs_dir: pathlib.Path,
    rows_dir: pathlib.Path,
) -> bool:
    """Whether a run lacks its row, or its model, and one that lacks a row uses that."""
    found = {(row["arm"], row["seed"]) for row in rows.read(study, rows_dir)}
    if (arm, seed) not in found:
        return True
    followers = [name for name, s in chosen if arm in study.arms[name].needs and s == seed]
    is_wanted = any(_is_needed(study, name, seed, chosen, runs_dir, rows_dir) for name in followers)
    return is_wanted and not (folder_of(runs_dir, arm, seed) / measure.RESULT).is_file()


class _Run:
    """A run that goes on in a process of its own.

    Args:
        study, arm, seed: which one.
        runs_dir: the folders of the study's runs.
        head: how its lines begin.
        launch: starts the process, given the folder of the run.
    """

    def __init__(
        self,
        study: Study,
        arm: str,
        seed: int,
        runs_dir: pathlib.Path,
        head: str,
        launch: Callable[[pathlib.Path], Any],
    ):
        self._study, self._arm, self._seed, self._head = study, arm, seed, head
        self._folder, self._plan = folder_of(runs_dir, arm, seed), rows.plan_of(study, arm, seed)
        _check_same(self._folder, self._plan)
        _write_plans(study, arm, seed, self._folder, runs_dir)
        print(f"{head}: running in {self._folder}", flush=True)
        self._process = launch(self._folder)

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def row(self) -> dict[str, Any]:
        """Of a run that has ended, which is printed; raises `UserError` where it failed."""
        if code := self._process.returncode:
            log = (self._folder / "log.txt").read_text(errors="replace")
            last = "".join(log.strip().splitlines()[-1:])
            raise UserError(
                f"the run in {self._folder} ended with {code}: {last} (see log.txt there)"
            )
        result = json.loads((self._folder / measure.RESULT).read_text())
        del result["model_dir"]
        shown = (f"{name} {result['values'].get(name)}" for name in self._study.columns)
        print(f"{self._head}: {', '.join(shown)}", flush=True)
        return {
            "arm": self._arm,
            "seed": self._seed,
            "plan": self._plan,
            **result,
            "commit": _commit(),
            "machine": timing.machine(),
            "python": sys.version.split()[0],
            "tensorflow": tf.__version__,
        }


def _launcher(jobs: int, ray_address: str) -> Callable[[pathlib.Path], Any]:
    """What starts the process of a run in a folder: here, or on a cluster."""
    if ray_address:
        workers.import_ray()
        from benchmarks.study import on_ray

        on_ray.connect(ray_address, jobs)
        return on_ray.Task
    return functools.partial(_start_here, jobs=jobs)


def _start_here(folder: pathlib.Path, jobs: int) -> subprocess.Popen:
    """A process with its part of the processors, where there are several."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    names = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS") if jobs > 1 else ()
    command = [sys.executable, "-m", "benchmarks.study.measure", str(folder)]
    with open(folder / "log.txt", "a") as log:
        return subprocess.Popen(
            command,
            cwd=_ROOT,
            stdout=log,
            stderr=log,
            env={**os.environ, **dict.fromkeys(names, threads)},
        )


def _check_same(folder: pathlib.Path, plan: list[Any]) -> None:
    """Refuses a folder that a run with other recipes has left."""
    path = folder / "plan.json"
    if path.is_file() and json.loads(path.read_text()) != plan:
        raise UserError(f"{folder} is of a run with other recipes; remove it, or give --runs_dir")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plan, indent=1) + "\n")


def _write_plans(
    study: Study, arm: str, seed: int, folder: pathlib.Path, runs_dir: pathlib.Path
) -> None:
    arms = study.arms
    models = {
        name: str(_model_of(arms[name], folder_of(runs_dir, name, seed)))
        for name in arms[arm].needs
    }
    before = models.get(arms[arm].start, "")
    for number, recipe in enumerate(study.recipes(arm, seed, models), 1):
        if before and isinstance(recipe, config.Recipe):
            train = dataclasses.replace(recipe.train, pretrained=before)
            recipe = dataclasses.replace(recipe, train=train)
        config.save_recipe(recipe, folder / f"plan_{number}.yaml")
        before = str(folder / f"step_{number}")


def _model_of(arm: Arm, folder: pathlib.Path) -> pathlib.Path:
    """The training folder of an arm's model."""
    if arm.command == "search":
        return pathlib.Path(json.loads((folder / measure.RESULT).read_text())["model_dir"])
    return folder / f"step_{len(arm.steps)}"


def _commit() -> str:
    """The commit of the code, with "+" where it was changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "tfdet", "configs")
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + ("+" if changed else "")
