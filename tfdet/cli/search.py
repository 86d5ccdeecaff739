"""tfdet-search: turns a trained two-stage detector into a better, smaller one (Joint-DetNAS)."""

import pathlib
import sys
import types
from typing import Any

from absl import flags

from tfdet.cli import app
from tfdet.cli import flags as common

COMMAND = app.Command(
    name="tfdet-search",
    purpose="Searches a smaller and better student of a trained detector, and resumes where it "
    "was killed.",
    example="""
        tfdet-search --hparams=joint_detnas/search_shapes \\
            --base=runs/base --teacher=runs/pool_2 --search_dir=runs/search
        tfdet-search --mode=finetune --search_dir=runs/search
        tfdet-eval --model_dir=runs/search/finetuned_0017 --data=shapes:val
        tfdet-search --hparams=joint_detnas/pool_search_shapes --base=runs/pool_2 \\
            --search_dir=runs/pool_search
    """,
    required=("search_dir",),
)
flags.DEFINE_string(
    "search_dir",
    None,
    "Folder for the table of candidates, weights and pictures; a search that was killed resumes "
    "from it.",
    flag_values=COMMAND.flags,
)
common.define_recipe(COMMAND, "search.candidates=30,score.alpha=0.1")
flags.DEFINE_string(
    "base",
    None,
    "Folder of the trained detector to begin with; its backbone is a ResNet. With "
    "search.space=pool the elastic super-network whose subnets are searched.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_string(
    "teacher",
    None,
    "Folder of an elastic super-network, or of one detector that teaches all candidates.",
    flag_values=COMMAND.flags,
)
common.define_data(COMMAND.flags, "Training data; that of the base where it is left out")
flags.DEFINE_string(
    "val_data", None, "Validation data, in the same form.", flag_values=COMMAND.flags
)
flags.DEFINE_integer(
    "workers",
    1,
    "Candidates that are trained at a time, each in a process of Ray (pip install 'tfdet[ray]'). "
    "The result does not depend on it.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_string(
    "ray_address",
    "",
    "A Ray cluster that the workers run on, as host:port; empty for this machine.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_enum(
    "mode",
    "search",
    ["search", "student", "finetune"],
    "Search; write a candidate as a training folder; or fine-tune it with its teacher, by the "
    "recipe's section finetune.",
    flag_values=COMMAND.flags,
)
flags.DEFINE_integer(
    "candidate",
    None,
    "Number of the candidate for the modes student and finetune; the best by score without it.",
    flag_values=COMMAND.flags,
)

_RECIPE_KEYS = {
    "base": "base",
    "teacher": "teacher",
    "data": "data.train",
    "val_data": "data.val",
}
_SEARCH_ONLY = {"hparams", "workers", "ray_address", *_RECIPE_KEYS}


def main(options: types.SimpleNamespace) -> None:
    common.check_positive(options, "workers")
    if options.mode == "search":
        _search(options)
        return
    unused = options.given & _SEARCH_ONLY
    if unused:
        raise app.UsageError(
            f"--mode={options.mode} takes no --{min(unused)}; it reads the recipe of the search"
        )
    _finish(options)


def _search(options: types.SimpleNamespace) -> None:
    if options.candidate is not None:
        raise app.UsageError("--candidate is for --mode=student and --mode=finetune")
    if not options.hparams:
        raise app.UsageError(
            "--hparams must be given: a recipe, such as joint_detnas/search_shapes"
        )
    from tfdet.nas import search, search_recipe

    changes = {
        key: getattr(options, name) for name, key in _RECIPE_KEYS.items() if name in options.given
    }
    recipe = search_recipe.make_search_recipe(options.hparams, changes)
    folder = pathlib.Path(options.search_dir)
    table = search.search(recipe, folder, lambda: _workers(options, recipe), options.typed)
    number = search.pool(recipe, list(table.values()))[0].number
    student = _write_student(recipe, table, number, folder, options.typed)
    print(
        f"the best of {len(table) - 1} candidates is {number}, score {table[number].score:.3f}; "
        f"{folder}/report.md describes all, and {student} is the detector",
        flush=True,
    )


def _workers(options: types.SimpleNamespace, recipe: Any) -> Any:
    from tfdet.nas import evaluator, workers

    uses_ray = options.workers > 1 or bool(options.ray_address)
    if uses_ray:
        workers.import_ray()
        workers.hide_gpus()
    else:
        evaluator.prepare_process(recipe)
    checked = workers.make_evaluator(recipe)
    if not uses_ray:
        return workers.ThisProcess(checked)
    found = workers.RayWorkers(recipe, options.workers, options.ray_address)
    print(f"{options.workers} workers: processes {found.processes}", flush=True)
    return found


def _finish(options: types.SimpleNamespace) -> None:
    from tfdet.nas import search, student_folder

    folder = pathlib.Path(options.search_dir)
    recipe, table = search.load_search(folder)
    best = search.pool(recipe, list(table.values()))
    if not best:
        raise app.UserError(f"the search in {folder} has no candidate yet")
    number = best[0].number if options.candidate is None else options.candidate
    if options.mode == "student":
        print(_write_student(recipe, table, number, folder, options.typed), flush=True)
        return
    print(student_folder.finetune(recipe, table, number, folder, options.typed), flush=True)


def _write_student(recipe: Any, table: Any, number: int, folder: Any, command: str) -> Any:
    from tfdet.nas import student_folder

    path = folder / f"student_{number:04d}"
    student_folder.write_student(recipe, table, number, path, command)
    return path


def run() -> None:
    sys.exit(COMMAND.run(main))


if __name__ == "__main__":
    run()
