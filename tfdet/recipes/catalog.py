"""The recipes of the package by name: "efficientdet/nano_shapes" is a file beside this one.

Each begins with comments: a title, the command that it is for, time and score.
"""

import dataclasses
import difflib
import pathlib
import re

from tfdet.errors import UserError

_FOLDER = pathlib.Path(__file__).parent
ENDINGS = (".yaml", ".yml")
_LEAST_LIKENESS = 0.6  # of names that are offered


@dataclasses.dataclass(frozen=True)
class Entry:
    """The head of a recipe.

    Attributes:
        name: what `--hparams` takes.
        command: that it is for, such as "tfdet-train".
        title: its first sentence.
    """

    name: str
    command: str
    title: str


def names() -> list[str]:
    """All names, sorted: ["caddet/fcos_600_coco", ...]."""
    return sorted(
        path.relative_to(_FOLDER).with_suffix("").as_posix() for path in _FOLDER.glob("*/*.yaml")
    )


def path(name: str) -> pathlib.Path:
    """The file of a recipe; a `UserError` that offers others where there is none of this name."""
    known = names()
    if name in known:
        return _FOLDER / f"{name}.yaml"
    found = nearest(name)
    hint = f"did you mean {' or '.join(map(repr, found))}?" if found else _families(known)
    raise UserError(f"there is no recipe {name!r}; {hint}")


def nearest(typed: str) -> list[str]:
    """At most three names near to what a user typed: a name with a slip, its end, or a path."""
    known = names()
    stem = re.sub(r"\.ya?ml$", "", typed.replace("\\", "/"))
    ends = [name for name in known if stem.endswith(f"/{name}") or name.endswith(f"/{stem}")]
    if stem in known or ends:
        return [stem] if stem in known else ends[:3]
    by_stem = {name.partition("/")[2]: name for name in known}
    close = difflib.get_close_matches(stem, [*known, *by_stem], 3, _LEAST_LIKENESS)
    return list(dict.fromkeys(by_stem.get(name, name) for name in close))


def _families(known: list[str]) -> str:
    folders = {name.partition("/")[0]: None for name in known}
    return f"names begin with {'/, '.join(folders)}/, and `tfdet-train --list_recipes` lists them"


def entries(command: str | None = None) -> list[Entry]:
    """What is there, in order of names; for one command, or for all."""
    found = [_entry(name) for name in names()]
    return [entry for entry in found if command in (None, entry.command)]


def _entry(name: str) -> Entry:
    head = _head((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    command = re.search(rf"^ +(tfdet-\w+) --hparams={re.escape(name)}(?= )", head, re.MULTILINE)
    prose = " ".join(re.split(r"^ {2,}", head, maxsplit=1, flags=re.MULTILINE)[0].split())
    assert command, f"{name} has no command in its head"  # tests/recipes_test.py
    return Entry(name, command[1], prose.partition(". ")[0].rstrip("."))


def _head(text: str) -> str:
    lines = text.splitlines()
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:count])


def listing(command: str | None = None) -> str:
    """The names, each with its title, as text for a terminal."""
    found = entries(command)
    width = max((len(entry.name) for entry in found), default=0)
    return "\n".join(f"{entry.name:{width}}  {entry.title}" for entry in found)
