"""Runs the arms of a study one after the other, each in a process of its own."""

import dataclasses
import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from benchmarks import timing
from benchmarks.study import measure, rows
from benchmarks.study.plan import Arm, Study
from tfdet import config, records
from tfdet.errors import UserError

_ROOT = pathlib.Path(__file__).parents[2]


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
    study: Study, chosen: Sequence[tuple[str, int]], runs_dir: pathlib.Path, rows_dir: pathlib.Path
) -> None:
    """Trains and measures what has no row yet, and adds the rows.

    Args:
        study: what there is.
        chosen: (arm, seed) of the runs, in their order.
        runs_dir: gets a folder per run; one whose training was killed resumes there.
        rows_dir: of the rows.
    """
    for number, (arm, seed) in enumerate(chosen, 1):
        head = f"[{number}/{len(chosen)}] {study.name}: {arm}, seed {seed}"
        if not _is_needed(study, arm, seed, chosen, runs_dir, rows_dir):
            print(f"{head}: done", flush=True)
            continue
        print(f"{head}: running in {folder_of(runs_dir, arm, seed)}", flush=True)
        row = _run(study, arm, seed, runs_dir)
        rows.add(study, row, rows_dir)
        shown = ", ".join(f"{name} {row['values'].get(name)}" for name in study.columns)
        print(f"{head}: {shown}", flush=True)


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


def _run(study: Study, arm: str, seed: int, runs_dir: pathlib.Path) -> dict[str, Any]:
    folder = folder_of(runs_dir, arm, seed)
    plan = rows.plan_of(study, arm, seed)
    _check_same(folder, plan)
    _write_plans(study, arm, seed, folder, runs_dir)
    with open(folder / "log.txt", "a") as log:
        command = [sys.executable, "-m", "benchmarks.study.measure", str(folder)]
        command += ["--times"] if study.times else []
        code = subprocess.run(command, cwd=_ROOT, stdout=log, stderr=log).returncode
    if code:
        last = (folder / "log.txt").read_text(errors="replace").strip().splitlines()[-1:]
        raise UserError(
            f"the run in {folder} ended with {code}: {''.join(last)} (see log.txt there)"
        )
    result = json.loads((folder / measure.RESULT).read_text())
    del result["model_dir"]
    return {
        "arm": arm,
        "seed": seed,
        "plan": plan,
        **result,
        "commit": _commit(),
        "machine": timing.machine(),
        "python": sys.version.split()[0],
        "tensorflow": tf.__version__,
    }


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
