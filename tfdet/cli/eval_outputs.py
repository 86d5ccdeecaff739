"""The files that `tfdet-eval` writes: whether they can be, and whose they replace."""

import json
import pathlib
import types

from tfdet.cli import app, flags
from tfdet.errors import UserError

FLAGS = ("json_out", "detections_out", "figure_out")
_MOST_BYTES = 1 << 24  # of a file of numbers


def check(options: types.SimpleNamespace) -> None:
    """Refuses, ahead of the work, files that cannot be written or that somebody else wrote."""
    given = {name: pathlib.Path(getattr(options, name)) for name in FLAGS if getattr(options, name)}
    for name, path in given.items():
        if path.is_dir():
            raise app.UsageError(f"--{name}={path} is a folder; give a file in it")
        if not path.absolute().parent.is_dir():
            raise app.UsageError(f"--{name}={path}: its folder does not exist")
        same = [other for other in given if other != name and _is_same(given[other], path)]
        if same:
            raise app.UsageError(f"--{name} and --{same[0]} are one file, {path}")
        if path.exists() and not (options.overwrite or _is_ours(name, path)):
            raise UserError(
                f"--{name}={path} is there, and tfdet-eval cannot tell that it wrote it; give "
                "another name, or --overwrite to replace it"
            )
        flags.check_writable(path.absolute().parent, name)
    if options.figure_out and not options.figure_out.lower().endswith(".png"):
        raise app.UsageError(f"--figure_out={options.figure_out} must end with .png")
    if options.calibrate and pathlib.Path(options.model_dir).is_dir():
        flags.check_writable(pathlib.Path(options.model_dir), "model_dir")


def _is_same(first: pathlib.Path, second: pathlib.Path) -> bool:
    return first.resolve() == second.resolve()


def _is_ours(name: str, path: pathlib.Path) -> bool:
    """Whether an earlier `tfdet-eval` wrote it.

    Detections in COCO's form have no place for a sign of who wrote them.
    """
    if name == "figure_out":
        from tfdet.visualization import draw

        return draw.writer_of(path) == draw.WRITER
    return name == "json_out" and _are_numbers(path)


def _are_numbers(path: pathlib.Path) -> bool:
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return False
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return False
    return isinstance(facts, dict) and "data" in facts and bool({"metrics", "curve"} & set(facts))
