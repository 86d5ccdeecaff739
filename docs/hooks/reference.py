"""Markdown of the pages that follow from the code: keys of recipes, recipes, commands, API."""

import dataclasses
import importlib
import importlib.util
import inspect
import pathlib
import pkgutil
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

import tfdet
from tfdet import additions, config, records, registry
from tfdet.cli import app
from tfdet.nas.search_recipe import SearchRecipe
from tfdet.recipes import catalog
from tfdet.training.pretrain_recipe import PretrainRecipe

# In the order in which someone meets them.
COMMANDS = (
    *("train", "eval", "infer", "export", "serve", "inspect", "data", "weights"),
    *("pretrain", "prune", "extract", "search"),
)
# The packages whose modules the API reference lists, from whole models to single operations.
PACKAGES = (
    *("detectors", "backbones", "necks", "heads", "layers", "losses", "ops", "data"),
    *("training", "evaluation", "serving", "visualization", "weights", "nas"),
)
# Single modules, on a page of their own.
MODULES = ("registry", "config", "recipes.catalog", "profiling", "records", "additions", "errors")
_PLACE = re.compile(r"^[a-z_0-9]+(?:, [a-z_0-9]+)*$")


# Keys of recipes


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of a recipe: its name within its section, type, default and meaning, as Markdown."""

    name: str
    type: str
    default: str
    meaning: str


def keys(record: type) -> list[Key]:
    """The keys of a record, without those of records within it."""
    hints, meanings = typing.get_type_hints(record), attributes(record)
    found = []
    for field in dataclasses.fields(record):
        if records.OPEN in field.metadata or not field.init:
            continue
        default = _default(field)
        if not dataclasses.is_dataclass(default):
            meaning = _cell(meanings.get(field.name, ""))
            found.append(Key(field.name, _type(hints[field.name]), _shown(default), meaning))
    return found


def parts(record: type, place: str) -> Iterator[tuple[str, type]]:
    """(dotted name, record) of a section and of all records within it."""
    yield place, record
    for field in dataclasses.fields(record):
        if records.OPEN in field.metadata:
            for key, kind in field.metadata[records.OPEN]().items():
                inner = [x for x in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(x)]
                for one in inner:
                    yield from parts(one, f"{place}.{key}")
        elif dataclasses.is_dataclass(default := _default(field)):
            yield from parts(type(default), f"{place}.{field.name}")


def attributes(record: type) -> dict[str, str]:
    """The descriptions in the section "Attributes" of a record's docstring and of its bases."""
    found: dict[str, str] = {}
    for cls in reversed(record.__mro__):
        text = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
        section = re.split(r"^\S", text, maxsplit=1, flags=re.MULTILINE)[0]
        for entry in re.split(r"^(?= {4}\S)", section, flags=re.MULTILINE):
            names, colon, meaning = entry.strip().partition(":")
            if colon and _PLACE.match(names):
                found |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return found


def keys_page() -> str:
    """Every key of every recipe with its default."""
    families = {}
    for names in registry.families(test=False).values():
        for name in names:
            families.setdefault(type(registry.config(name)), []).append(name)
    lines = [
        "# All keys of a recipe",
        "",
        "A recipe has the sections `model`, `data`, `train` and `eval`. `--hparams` takes any of "
        "these keys with the name of its section: `--hparams=train.learning_rate=0.01`. This page "
        "is made from the code. A default below `model` is the one of the family; a model's name "
        "may set another.",
        "",
    ]
    for section in ("data", "train", "eval"):
        kind = type(_default({f.name: f for f in dataclasses.fields(config.Recipe)}[section]))
        lines += _section(kind, section)
    lines += ["## Keys of `train` that Joint-DetNAS adds", "", *_additions()]
    for record, names in families.items():
        listed = ", ".join(f"`{name}`" for name in names)
        lines += [f"## `model` of {_title(record)}", "", f"{listed}.", ""]
        lines += _section(record, "model", heading=False)
    lines += ["## A search (`tfdet-search`)", "", *_section(SearchRecipe, "", heading=False)]
    lines += ["## Pre-training (`tfdet-pretrain`)", ""]
    lines += _section(PretrainRecipe, "", heading=False)
    return "\n".join(lines)


def _section(record: type, place: str, heading: bool = True) -> list[str]:
    lines = [f"## `{place}`", ""] if heading else []
    for name, part in parts(record, place):
        name = name.removeprefix(".")
        shared = part in (config.TrainConfig, config.DataConfig, config.EvalConfig)
        if name.partition(".")[0] not in ("model", "") and shared and not heading:
            lines += [f"`{name}` has the keys of [`{_home(part)}`](#{_home(part)}).", ""]
            continue
        if name.startswith(("train.", "finetune.")) or (not heading and name[:5] == "data."):
            continue  # their own tables stand above
        if name and name != place:
            lines += [f"### `{name}`", ""]
        lines += _table(part)
    return lines


def _home(part: type) -> str:
    return part.__name__.removesuffix("Config").lower()


def _additions() -> list[str]:
    lines = []
    for key, kind in additions.kinds().items():
        for record in (x for x in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(x)):
            lines += [f"### `train.{key}`", "", *_table(record)]
    plain = {k: v for k, v in additions.kinds().items() if v in (int, float, str, bool)}
    for key, kind in plain.items():
        default = config.TrainConfig().additions[key]
        meaning = "factor of the sum of \\|gamma\\| of all batch norms" if key == "gamma_l1" else ""
        row = Key(f"train.{key}", _type(kind), _shown(default), meaning)
        lines += [f"### `train.{key}`", "", *_rows([row])]
    return lines


def _table(record: type) -> list[str]:
    return _rows(keys(record))


def _rows(found: list[Key]) -> list[str]:
    if not found:
        return []
    rows = [f"| `{key.name}` | {key.type} | {key.default} | {key.meaning} |" for key in found]
    return ["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""]


def _default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else ""


def _type(hint: Any) -> str:
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    if hint in words:
        return words[hint]
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{value or repr(value)}`" for value in arguments)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join("none" if x is type(None) else _type(x) for x in arguments)
    if typing.get_origin(hint) is tuple:
        inner = [_type(x) for x in arguments if x is not ...]
        return f"list of {inner[0]}" if ... in arguments else f"[{', '.join(inner)}]"
    return "keys and values" if typing.get_origin(hint) is dict else _cell(_title(hint))


def _title(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)).removesuffix("Config")


def _shown(value: Any) -> str:
    text = str(list(value)) if isinstance(value, tuple) else str(value).lower()
    text = str(value) if isinstance(value, str) else text
    if value is None or text == "":
        return ""
    return f"`{_cell(text)}`" if len(text) <= 40 else f"`{_cell(text[:37])}...`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# Recipes and commands


def recipes_page() -> str:
    """The recipes of the package, by the command that they are for."""
    lines = [
        "# Recipes",
        "",
        "`--hparams=NAME` takes a recipe of the package by its name, wherever the package is "
        "installed; `--list_recipes` of each command prints this list. Each begins with what it "
        "reproduces, its command, and the time and score that were measured.",
        "",
    ]
    for command in ("tfdet-train", "tfdet-pretrain", "tfdet-search"):
        rows = [f"| `{e.name}` | {_cell(e.title)} |" for e in catalog.entries(command)]
        lines += [f"## `{command}`", "", "| name | what it is |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def commands_page() -> str:
    """Every command: what it does, an example, all flags with their defaults."""
    lines = [
        "# Commands",
        "",
        "This page is made from the flags of the commands; `COMMAND --help` prints the same. "
        "Flags are written `--name=value`; boolean ones `--name` or `--noname`. Exit codes: 0 "
        "done, 1 a mistake to mend, 2 wrong flags, 130 stopped by Ctrl-C, 143 by SIGTERM.",
        "",
    ]
    for name in COMMANDS:
        lines += _command(importlib.import_module(f"tfdet.cli.{name}").COMMAND)
    return "\n".join(lines)


def _command(command: app.Command) -> list[str]:
    head, _, flags = command.help().partition("\nFlags:\n")
    purpose, _, usage = head.partition("\n\nUsage: ")
    usage, _, example = usage.partition("\n\nExample:\n")
    lines = [f"## `{command.name}`", "", purpose, "", "```sh", usage.strip(), "```", ""]
    lines += ["```sh", inspect.cleandoc("\n" + example), "```", "", "| flag | |", "|---|---|"]
    for flag in re.split(r"\n(?=  --)", flags):
        title, _, text = flag.strip().partition("\n")
        lines.append(f"| `{title}` | {_markdown(' '.join(text.split()))} |")
    return [*lines, ""]


def _markdown(text: str) -> str:
    return _cell(text).replace("*", "\\*").replace("<", "&lt;")


# API


def api_pages() -> dict[str, str]:
    """{name of the page: Markdown} with the directives that mkdocstrings fills."""
    modules = [line for name in MODULES for line in (f"::: tfdet.{name}", "")]
    pages = {"public": _public()}
    pages["names"] = "\n".join(["# Names, recipes, counts, errors", "", *modules])
    return pages | {name: _package(name) for name in PACKAGES}


def _public() -> str:
    lines = [
        "# `tfdet`: public names",
        "",
        "What `import tfdet` gives. These names stay; everything else may move between versions.",
        "",
        "| name | what it is |",
        "|---|---|",
    ]
    for name, module in tfdet._PUBLIC.items():
        summary = inspect.getdoc(getattr(tfdet, name)).partition("\n\n")[0]
        lines.append(
            f"| [`tfdet.{name}`][{module}.{name}] | {_markdown(' '.join(summary.split()))} |"
        )
    return "\n".join([*lines, ""])


def _package(name: str) -> str:
    package = importlib.import_module(f"tfdet.{name}")
    lines = [f"# `tfdet.{name}`", ""]
    for module in pkgutil.iter_modules(package.__path__):
        if not module.ispkg and _has_public(f"tfdet.{name}.{module.name}"):
            lines += [f"::: tfdet.{name}.{module.name}", ""]
    return "\n".join(lines)


def _has_public(module: str) -> bool:
    path = pathlib.Path(importlib.util.find_spec(module).origin)
    if path.suffix != ".py":  # the native library
        return False
    return bool(re.search(r"^(def|class) [a-zA-Z]", path.read_text("utf-8"), re.MULTILINE))
