"""Joint-DetNAS's search: students change by small actions, with teachers that change with them.

The folder of a search holds

    search.yaml               the whole recipe
    command.txt               what was typed
    candidates.jsonl          a row for each candidate, see `candidates.Candidate`
    weights/                  of the pool and of the Pareto front
    report.md score.png pareto.png
    student_0012/             the found student, as tfdet-train would leave it

Candidates come in generations. All parents of one are drawn from the pool as it was before, so that
they can be looked at in any order, and by any number of workers.
"""

import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from tfdet import config, files
from tfdet.errors import UserError
from tfdet.nas import search_report
from tfdet.nas.candidates import Candidate, Table
from tfdet.nas.evaluator import PARENT_STREAM, Job, candidate_random
from tfdet.nas.search_recipe import SearchRecipe
from tfdet.nas.selection import best_candidates, draw_parent, pareto_front
from tfdet.nas.workers import Workers

RECIPE_FILE = "search.yaml"


def search(
    recipe: SearchRecipe,
    folder: str | pathlib.Path,
    make_workers: Callable[[], Workers],
    command: str = "",
) -> Table:
    """Searches in `folder`; started again after a kill, it goes on with the next candidate.

    Args:
        recipe: must equal the one that `folder` was begun with, but for the number of candidates.
        folder: made if need be.
        make_workers: called once the folder is ours.
        command: what the user typed, kept in the folder.

    Returns:
        All candidates.
    """
    folder = pathlib.Path(folder)
    check_folder(recipe, folder)
    table = Table(folder)
    workers = make_workers()
    with _claimed(recipe, folder, command):
        _say_start(recipe, table)
        pace = _Pace(recipe.search.candidates - max(len(table) - 1, 0))
        for generation, numbers in enumerate(generations(recipe.search)):
            missing = [number for number in numbers if number not in table]
            if missing:
                _look_at_all(recipe, table, workers, generation, missing, pace)
            _check_alive(table, numbers)
            if missing:
                _tidy(recipe, table)
        if pace.is_new:  # the kill may have come between the last candidate and its report
            _tidy(recipe, table)
    return table


def pool(recipe: SearchRecipe, rows: list[Candidate]) -> list[Candidate]:
    """The candidates that may be parents, the best first."""
    return best_candidates(rows, len(recipe.search.rank_weights))


def generations(settings: Any) -> Iterator[range]:
    """The numbers of the candidates of each generation; the base is the first."""
    yield range(1)
    for start in range(1, settings.candidates + 1, settings.generation):
        yield range(start, min(start + settings.generation, settings.candidates + 1))


def load_search(folder: str | pathlib.Path) -> tuple[SearchRecipe, Table]:
    """The recipe and the candidates of a search's folder."""
    path = pathlib.Path(folder) / RECIPE_FILE
    if not path.is_file():
        raise UserError(f"{folder} is not the folder of a search: it has no {RECIPE_FILE}")
    return config.load_recipe(path, SearchRecipe), Table(folder)


def check_folder(recipe: SearchRecipe, folder: pathlib.Path) -> None:
    """Refuses a folder that cannot be written to, or where another search was begun."""
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not above.is_dir():
        raise UserError(f"--search_dir={folder}: {above} is a file; give a folder")
    if not os.access(above, os.W_OK):
        raise UserError(f"--search_dir={folder}: {above} cannot be written to")
    path = folder / RECIPE_FILE
    if not path.is_file():
        return
    begun = config.load_recipe(path, SearchRecipe)
    free = ("search.candidates:", "finetune.")  # a search may be made longer
    different = [d for d in config.differences(recipe, begun) if not d.startswith(free)]
    if different:
        raise UserError(
            f"{folder} was begun with another recipe ({'; '.join(different)}); use the same recipe "
            "to go on, or another --search_dir to start anew"
        )


@contextlib.contextmanager
def _claimed(recipe: SearchRecipe, folder: pathlib.Path, command: str) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        config.save_recipe(recipe, folder / RECIPE_FILE)
        if command:
            files.write_text(folder / "command.txt", command + "\n")
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error.strerror})") from None
    with files.holding(folder):
        yield


class _Pace:
    """Tells how long the candidates that are left will take, by those that are done."""

    def __init__(self, left: int):
        self._left, self._done, self._started = left, 0, time.monotonic()
        self.is_new = True

    def step(self, number: int) -> str:
        """What to say once a candidate is done; the base says nothing, since it is not trained."""
        self.is_new = False
        if not number:
            self._started = time.monotonic()
            return ""
        self._left, self._done = self._left - 1, self._done + 1
        each = (time.monotonic() - self._started) / self._done
        return f"; {each * self._left / 60:.0f} min left" if self._left > 0 else ""


def _look_at_all(
    recipe: SearchRecipe,
    table: Table,
    workers: Workers,
    generation: int,
    numbers: list[int],
    pace: _Pace,
) -> None:
    rows = [candidate for candidate in table.values() if candidate.generation < generation]
    jobs = (_job(recipe, table, rows, generation, number) for number in numbers)
    for candidate, weights in workers.look_at(jobs):
        table.add(candidate, weights)
        told = search_report.sentence(candidate, recipe, table)
        print(told + pace.step(candidate.number), flush=True)


def _tidy(recipe: SearchRecipe, table: Table) -> None:
    """Drops weights that no candidate will start from, and draws the report."""
    rows = list(table.values())
    keep = [*pool(recipe, rows), *pareto_front(rows, recipe.score.operations)]
    table.drop_weights({candidate.number for candidate in keep})
    search_report.write(table.folder, rows, recipe)


def _job(
    recipe: SearchRecipe, table: Table, rows: list[Candidate], generation: int, number: int
) -> Job:
    if not number:
        return Job(number, generation)
    random = candidate_random(recipe, number, PARENT_STREAM)
    parent = draw_parent(pool(recipe, rows), recipe.search.rank_weights, random)
    return Job(number, generation, parent, table[0], table.weights(parent.number))


def _check_alive(table: Table, numbers: range) -> None:
    """Ends a search in which a whole generation failed; it would go on failing."""
    rows = [table[number] for number in numbers]
    if all(row.failure for row in rows):
        raise UserError(
            f"all candidates from {numbers[0]} to {numbers[-1]} failed, the last because "
            f"{rows[-1].failure}"
        )


def _say_start(recipe: SearchRecipe, table: Table) -> None:
    settings = recipe.search
    if table:
        done = len(table) - 1
        print(f"going on after {done} of {settings.candidates} candidates", flush=True)
        return
    print(
        f"searching {settings.candidates} candidates in generations of {settings.generation}, from "
        f"{recipe.base}; measuring it first",
        flush=True,
    )
