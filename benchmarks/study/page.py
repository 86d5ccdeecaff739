"""The page of a study: Markdown and a plot, made of nothing but its YAML file and its rows."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.study import agreement, columns, pictures, statistics
from benchmarks.study.plan import Study
from tfdet import files
from tfdet.errors import UserError

_MINUS = "−"
_NONE = "-"
_MEASURED = (
    "Each row is the mean over the seeds, with the standard deviation of one run; all runs are "
    "measured once, after their last epoch, on the validation data."
)


def write(study: Study, rows: Sequence[Mapping[str, Any]], folder: pathlib.Path) -> pathlib.Path:
    """Writes NAME.md and its pictures into a folder; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures.draw(study, rows, folder)
    path = folder / f"{study.name}.md"
    files.write_text(path, render(study, rows))
    return path


def render(study: Study, rows: Sequence[Mapping[str, Any]]) -> str:
    """The page as text."""
    wanted = len(list(study.runs()))
    missing = "" if len(rows) == wanted else f" Of {wanted} runs {len(rows)} are there."
    found = _filled(study.found, study, rows) if study.found else _found(study, rows)
    parts = [
        f"# {study.title}",
        f"{study.asked.strip()} {found}{missing}",
        f"    python -m benchmarks.study configs/studies/{study.name}.yaml",
        f"{study.setting.strip()} {_MEASURED}".strip(),
        _table(study, rows, study.columns),
        _table(study, rows, study.details),
        *(f"![{words}]({name})" for name, words in pictures.names(study, rows).items()),
        _differences(study, rows),
        agreement.table(study, rows),
        _filled(study.remarks, study, rows),
        _made_with(study, rows),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _table(study: Study, rows: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> str:
    """The arms that have any of the wanted values; "" where none has."""
    shown = [x for x in wanted if any(statistics.values(rows, arm, x) for arm in study.arms)]
    if not shown:
        return ""
    lines = [
        f"| | runs | {' | '.join(map(columns.words, shown))} |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for name, arm in study.arms.items():
        count = sum(row["arm"] == name for row in rows)
        cells = [_cell(statistics.values(rows, name, column), column) for column in shown]
        if any(cell != _NONE for cell in cells):
            lines.append(f"| {arm.title} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: statistics.Values, column: str) -> str:
    if not values:
        return _NONE
    if columns.is_difference(column):
        return _interval(statistics.interval(list(values.values())), column)
    mean, spread = statistics.mean_and_spread(values)
    text = columns.number(mean, column)
    # Counts that are the same for all seeds have no spread.
    return text if not spread else f"{text} ± {columns.number(spread, column).lstrip('+')}"


def _differences(study: Study, rows: Sequence[Mapping[str, Any]]) -> str:
    """Paired differences of the first columns; "" where no pair is compared."""
    names = [name for name in study.columns if name.startswith(("AP", "gain"))][:3]
    lines = []
    for first, second in study.compare:
        found = [
            statistics.difference(*(statistics.values(rows, arm, name) for arm in (first, second)))
            for name in names
        ]
        if not any(found):
            continue
        titles = f"{study.arms[first].title} {_MINUS} {study.arms[second].title}"
        pairs = max(one.pairs for one in found if one)
        cells = [_interval(one, name) for one, name in zip(found, names, strict=True)]
        lines.append(f"| {titles} | {pairs} | {' | '.join(cells)} |")
    if not lines:
        return ""
    head = f"| difference | pairs | {' | '.join(map(columns.words, names))} |"
    words = "Differences between runs of the same seed, with their 95 % interval (Student's t):"
    return "\n".join([words, "", head, "|---" * (len(names) + 2) + "|", *lines])


def _interval(one: statistics.Difference | None, column: str) -> str:
    if one is None:
        return _NONE
    form = columns.form(column).lstrip("+")
    mean = columns.signed(f"{one.mean:+{form}}")
    if one.half_width is None:
        return f"{mean} (one pair)"
    ends = (columns.signed(f"{one.mean + sign * one.half_width:+{form}}") for sign in (-1, 1))
    return f"{mean} ({' to '.join(ends)})"


def _found(study: Study, rows: Sequence[Mapping[str, Any]]) -> str:
    """What came out, as long as nobody has put it into words."""
    name = study.columns[0]
    sentences = []
    for first, second in study.compare:
        pair = (statistics.values(rows, arm, name) for arm in (first, second))
        found = _interval(statistics.difference(*pair), name)
        if found != _NONE:
            arms = study.arms
            sentences.append(f"{arms[first].title} {_MINUS} {arms[second].title}: {found}")
    return f"{columns.words(name)}: {'; '.join(sentences)}." if sentences else ""


def _filled(text: str, study: Study, rows: Sequence[Mapping[str, Any]]) -> str:
    """Text with its placeholders: {AP[arm]}, {AP[arm - other]} and {AP - AP50[arm]}."""
    if "{" not in text:
        return text.strip()
    names = dict.fromkeys(
        [name for row in rows for name in row["values"]] + [*study.columns, *study.details]
    )
    try:
        return text.strip().format(**{name: _Lookup(name, study, rows) for name in names})
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UserError(
            f"study {study.name}: a placeholder of its text cannot be filled: {error}; write "
            "{AP[arm]} or {AP[arm - other]} of what its rows have"
        ) from None


class _Lookup:
    """The values of one column, by what stands in the brackets of a placeholder."""

    def __init__(self, column: str, study: Study, rows: Sequence[Mapping[str, Any]]):
        self._column, self._study, self._rows = column, study, rows

    def __getitem__(self, key: str) -> str:
        arms = [name.strip() for name in key.split(" - ")]
        found = [statistics.values(self._rows, arm, self._column) for arm in arms]
        if not all(found) or len(arms) > 2:
            raise KeyError(f"{self._column}[{key}]")
        if len(arms) == 2:
            return _interval(statistics.difference(*found), self._column)
        return _cell(found[0], self._column).split(" ± ")[0]


def _made_with(study: Study, rows: Sequence[Mapping[str, Any]]) -> str:
    """What the rows were made with, and what they cost."""
    minutes = sum(row["values"].get("cpu_minutes", 0) for row in rows)
    commits = ", ".join(dict.fromkeys(row["commit"].rstrip("+") for row in rows))
    machines = "; ".join(dict.fromkeys(row["machine"] for row in rows))
    seeds = ", ".join(map(str, sorted({row["seed"] for row in rows})))
    lines = [
        f"Seeds {seeds}; {minutes / 60:.1f} hours of processor time in all; {machines}; commit "
        f"{commits}. Raw rows: `benchmarks/figures/studies/{study.name}.jsonl`.",
        "",
        "| arm | recipe | changes |",
        "|---|---|---|",
    ]
    done = {row["arm"] for row in rows}
    for name, arm in study.arms.items():
        if name not in done:
            continue
        first = f"starts from `{arm.start}`; " if arm.start else ""
        changes = "; then ".join(_assignments(step.changes) or "none" for step in arm.steps)
        recipes = ", then ".join(f"`{step.recipe}`" for step in arm.steps)
        lines.append(f"| `{name}` | {recipes} | {first}{changes} |")
    shared = _assignments(study.changes)
    return "\n".join([*lines, "", f"Changes of all arms: {shared}." if shared else ""]).rstrip()


def _assignments(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}={_plain(value)}`" for key, value in changes.items())


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
