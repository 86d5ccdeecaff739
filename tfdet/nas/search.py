"""Joint-DetNAS's search: students change by small actions, with teachers that change with them.

The same loop searches the pool of teachers alone: `search.space`.

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

import pathlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

from tfdet import config
from tfdet.errors import Interrupted, UserError
from tfdet.nas import search_report
from tfdet.nas.candidates import Candidate, Table
from tfdet.nas.evaluator import PARENT_STREAM, Job, candidate_random
from tfdet.nas.search_recipe import SearchRecipe
from tfdet.nas.selection import best_candidates, draw_parent, pareto_front
from tfdet.nas.workers import Workers
from tfdet.progress import Pace
from tfdet.training.run_folder import RunFolder

RECIPE_FILE = "search.yaml"


def search(
    recipe: SearchRecipe,
    folder: str | pathlib.Path,
    make_workers: Callable[[], Workers],
    command: str = "",
) -> Table:
    """Searches in `folder`; started again after a kill, it continues with the next candidate.

    Args:
        recipe: must equal the one that `folder` was begun with, but for the number of candidates.
        folder: made if need be.
        make_workers: called once the folder is ours.
        command: what the user typed, kept in the folder.

    Returns:
        All candidates.
    """
    ours = run_folder(folder)
    ours.check(recipe)
    table = Table(ours.path)
    workers = make_workers()
    with ours.claimed(recipe, command):
        _say_start(recipe, table)
        try:
            _finish(recipe, table, workers)
        except KeyboardInterrupt as error:
            number = getattr(error, "number", signal.SIGINT)
            raise Interrupted(_where_stopped(recipe, table), number) from None
    return table


def _finish(recipe: SearchRecipe, table: Table, workers: Workers) -> None:
    """Looks at the candidates that are not in the table yet."""
    found, pace = len(table), Pace()
    pace.start(found)
    for generation, numbers in enumerate(generations(recipe.search)):
        missing = [number for number in numbers if number not in table]
        if missing:
            _look_at_all(recipe, table, workers, generation, missing, pace)
        _check_alive(table, numbers)
        if missing:
            _tidy(recipe, table)
    if len(table) == found:  # the kill may have come between the last candidate and its report
        _tidy(recipe, table)


def _where_stopped(recipe: SearchRecipe, table: Table) -> str:
    if not table:
        return "stopped; nothing was measured, and the same command starts again"
    done = f"{len(table) - 1} of {recipe.search.candidates} candidates"
    return f"stopped; {done} are in {table.folder}, and the same command resumes after them"


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


def run_folder(folder: str | pathlib.Path) -> RunFolder:
    """The folder of a search, which may be made longer while it runs."""
    free = ("search.candidates:", "finetune.")
    return RunFolder(folder, RECIPE_FILE, SearchRecipe, "--search_dir", free)


def _look_at_all(
    recipe: SearchRecipe,
    table: Table,
    workers: Workers,
    generation: int,
    numbers: list[int],
    pace: Pace,
) -> None:
    rows = [candidate for candidate in table.values() if candidate.generation < generation]
    jobs = (_job(recipe, table, rows, generation, number) for number in numbers)
    for candidate, weights in workers.look_at(jobs):
        table.add(candidate, weights)
        if not candidate.number:  # the base, which is not trained
            pace.start(len(table), again=True)
        left = pace.left(len(table), recipe.search.candidates + 1)
        is_last = len(table) > recipe.search.candidates
        sentence = search_report.sentence(candidate, recipe, table)
        print(f"{sentence}; {left} left" if left and not is_last else sentence, flush=True)


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
    if recipe.search.space == "pool":  # weights are the super-network's
        seen = tuple(row.subnet for row in rows)
        return Job(number, generation, parent, table[0], seen=seen)
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
