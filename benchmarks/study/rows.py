"""The rows of a study: one JSON object per run, in a file that is committed."""

import json
import pathlib
from typing import Any

from benchmarks.study.plan import Study, described
from tfdet import documents, files

FOLDER = pathlib.Path(__file__).parents[1] / "figures" / "studies"


def read(study: Study, folder: pathlib.Path = FOLDER) -> list[dict[str, Any]]:
    """The rows in the order of the study's runs, without those of other recipes than it has."""
    path = folder / f"{study.name}.jsonl"
    if not path.is_file():
        return []
    text = documents.read_text(path, "rows")
    found = [documents.parse_json(line, str(path)) for line in text.splitlines() if line]
    by_run = {(row["arm"], row["seed"]): row for row in found}
    runs = [run for run in study.runs() if run in by_run]
    return [by_run[run] for run in runs if by_run[run]["plan"] == plan_of(study, *run)]


def add(study: Study, row: dict[str, Any], folder: pathlib.Path = FOLDER) -> None:
    """Writes a row beside those that are there, in the place of an older one of the same run."""
    kept = [old for old in read(study, folder) if _run(old) != _run(row)]
    order = {run: i for i, run in enumerate(study.runs())}
    rows = sorted([*kept, row], key=lambda one: order[_run(one)])
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows)
    files.write_text(folder / f"{study.name}.jsonl", text)


def plan_of(study: Study, arm: str, seed: int) -> list[Any]:
    """What a run is made of: the recipes of all its steps, and those of the models it uses."""
    before = [x for needed in study.arms[arm].needs for x in plan_of(study, needed, seed)]
    steps = [described(recipe) for recipe in study.recipes(arm, seed)]
    # As it comes back from JSON.
    return [*before, *json.loads(json.dumps(steps))]


def _run(row: dict[str, Any]) -> tuple[str, int]:
    return row["arm"], row["seed"]
