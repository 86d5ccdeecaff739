"""One mistake, damaged file or hostile input: how it is made, how the command must end, what stays.

A table is a module `*_cases.py` of this folder with a list `CASES`; `faults_test.py` runs them all
in its own process:

    CASES = [
        Case(
            "B7 a folder under the home directory that the shell did not expand",
            lambda folder: ["tfdet-train", *TINY, "--model_dir=~nobody-has-this-name/x"],
            code=1,
            says="there is no user 'nobody-has-this-name'",
        ),
    ]
"""

import dataclasses
import importlib
import pathlib
import re
from collections.abc import Callable, Sequence

COMMANDS = ("data", "eval", "export", "extract", "infer", "inspect", "pretrain", "prune", "search")
COMMANDS += ("train", "weights")


@dataclasses.dataclass(frozen=True)
class Case:
    """What a user did.

    Attributes:
        name: as the list of findings has it, and in words.
        make: writes the inputs into an empty folder, which is the working directory too, and
            returns the command line.
        code: exit code that is expected.
        says: regular expressions, each found in what was printed (both streams).
        never: regular expressions that are found nowhere in it.
        keeps: files, from the folder, that the command must leave as they were made.
        leaves: all that may be new in the folder, as patterns; None where that does not matter.
        after: called with the folder at the end; asserts whatever else must hold.
        is_slow: whether it is left to `-m slow`, because the command does all its work.
    """

    name: str
    make: Callable[[pathlib.Path], Sequence[str]]
    code: int = 1
    says: str | tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    leaves: tuple[str, ...] | None = None
    after: Callable[[pathlib.Path], None] | None = None
    is_slow: bool = False


def run(argv: Sequence[str]) -> int:
    """Runs a command by its name in this process, returns its exit code."""
    name = argv[0].removeprefix("tfdet-")
    assert name in COMMANDS, argv[0]
    module = importlib.import_module(f"tfdet.cli.{name}")
    return module.COMMAND.run(module.main, argv[1:])


def check(case: Case, folder: pathlib.Path, code: int, text: str, before: dict[str, bytes]) -> None:
    """Asserts that a command ended as its case says.

    Args:
        case: what was done.
        folder: where it was done.
        code: exit code of the command.
        text: what it printed.
        before: the content of `case.keeps` ahead of it.
    """
    assert code == case.code, text
    wanted = (case.says,) if isinstance(case.says, str) else case.says
    for expression in wanted:
        assert re.search(expression, text), f"{expression!r} is not in:\n{text}"
    for expression in ("Traceback", *case.never):
        assert not re.search(expression, text), f"{expression!r} is in:\n{text}"
    for name, content in before.items():
        assert (folder / name).read_bytes() == content, f"{name} was changed"
    if case.after:
        case.after(folder)


def tree(folder: pathlib.Path) -> set[str]:
    """All files below a folder, by their paths from it."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}
