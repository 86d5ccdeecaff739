"""What a search found, for people: sentences, a page, and two pictures."""

import pathlib
from collections.abc import Mapping, Sequence

from tfdet import files
from tfdet.nas.candidates import Candidate
from tfdet.nas.search_recipe import SearchRecipe
from tfdet.nas.selection import best_candidates, pareto_front
from tfdet.visualization import search_figures

_ROWS = 10
_KINDS = ("teacher and size only", "prune_channels", "prune_layers", "add_layer", "rearrange")
# Where candidates are subnets of a super-network, and no action made them.
_DRAWN, _CHANGED = "any subnet", "subnet changed in one place"


def sentence(candidate: Candidate, recipe: SearchRecipe, table: Mapping[int, Candidate]) -> str:
    """One line about a candidate that is done."""
    if candidate.failure:
        return f"candidate {candidate.number} failed: {candidate.failure}"
    cost = f"{_giga(candidate, recipe):.3g} G, {candidate.seconds:.0f} s"
    size = "x".join(map(str, candidate.image_size))
    found = f"at {size}: AP {candidate.ap:.3f}, {cost}"
    if not candidate.number:
        return f"base {found}"
    best = best_candidates(table.values(), 1)[0]
    return (
        f"candidate {candidate.number} of {recipe.search.candidates}: {candidate.parent}, "
        f"{_action(candidate, recipe)}, {found}, score {candidate.score:.3f} "
        f"(best: {best.number} with {best.score:.3f})"
    )


def write(
    folder: str | pathlib.Path, candidates: Sequence[Candidate], recipe: SearchRecipe
) -> None:
    """Writes `report.md`, `score.png` and `pareto.png`."""
    folder = pathlib.Path(folder)
    files.write_text(folder / "report.md", page(candidates, recipe))
    draw_scores(folder / "score.png", candidates, recipe)
    draw_front(folder / "pareto.png", candidates, recipe)


def page(candidates: Sequence[Candidate], recipe: SearchRecipe) -> str:
    """The best candidates, the Pareto front, and how the best one came about."""
    base = candidates[0]
    best = best_candidates(candidates, _ROWS)
    front = pareto_front(candidates, recipe.score.operations)
    failed = sum(1 for candidate in candidates if candidate.failure)
    seconds = sum(candidate.seconds for candidate in candidates)
    lines = [
        f"# {len(candidates) - 1} candidates from {recipe.base}",
        "",
        f"{failed} failed; {seconds / 60:.0f} minutes of work. Costs are "
        f"{recipe.score.operations} at the candidate's own size, and its share of the base's.",
        "",
        "## Best by score",
        *_rows(best, base, recipe),
        "",
        "## Most AP at their cost",
        *_rows(front, base, recipe),
        "",
        f"## How candidate {best[0].number} came about",
        *_lineage(best[0], candidates, recipe),
        "",
        best[0].net.to_paper(),
    ]
    return "\n".join(lines) + "\n"


def draw_scores(path: pathlib.Path, candidates: Sequence[Candidate], recipe: SearchRecipe) -> None:
    """Scores over the generations, by action, with the best so far."""
    rows = [candidate for candidate in candidates if not candidate.failure]
    kinds = (_DRAWN, _CHANGED) if recipe.search.space == "pool" else _KINDS
    points = {
        kind: [(c.generation, c.score) for c in rows if c.number and _kind(c, recipe) == kind]
        for kind in kinds
    }
    ends = sorted({candidate.generation for candidate in rows})
    best = [(end, max(c.score for c in rows if c.generation <= end)) for end in ends]
    search_figures.draw_scores(path, points, best)


def draw_front(path: pathlib.Path, candidates: Sequence[Candidate], recipe: SearchRecipe) -> None:
    """AP over multiply-adds, with the Pareto front, the base and the best by score."""
    rows = [candidate for candidate in candidates if not candidate.failure]
    sizes = sorted({c.image_size for c in rows}, key=lambda size: size[0] * size[1])
    points = {
        "x".join(map(str, size)): [_point(c) for c in rows if c.image_size == size]
        for size in sizes
    }
    front = [_point(c) for c in pareto_front(rows, "macs")]
    base, best = candidates[0], best_candidates(rows, 1)[0]
    stars = {
        f"base ({base.number})": _point(base),
        f"best score ({best.number})": _point(best),
    }
    search_figures.draw_front(path, points, front, stars)


def _point(candidate: Candidate) -> tuple[float, float]:
    return candidate.macs / 1e9, candidate.ap


def _rows(candidates: Sequence[Candidate], base: Candidate, recipe: SearchRecipe) -> list[str]:
    lines = [
        "| candidate | from | action | size | depths | parameters | G | share | AP | score |",
        "|---" * 10 + "|",
    ]
    for c in candidates:
        share = _giga(c, recipe) / _giga(base, recipe)
        parent = "" if c.parent is None else c.parent
        cells = [
            *(c.number, parent, _action(c, recipe), "x".join(map(str, c.image_size))),
            "-".join(map(str, c.net.depths)),
            f"{c.parameters / 1e6:.3g} M",
            *(f"{_giga(c, recipe):.4g}", f"{share:.0%}", f"{100 * c.ap:.1f}", f"{c.score:.3f}"),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _lineage(
    candidate: Candidate, candidates: Sequence[Candidate], recipe: SearchRecipe
) -> list[str]:
    by_number = {c.number: c for c in candidates}
    lines = []
    for number in candidate.lineage:
        c = by_number[number]
        size = "x".join(map(str, c.image_size))
        taught = f", taught by {c.teacher}" if c.teacher else ""
        lines.append(
            f"- {number}: {_action(c, recipe)} at {size}{taught}: AP {100 * c.ap:.1f}, "
            f"{_giga(c, recipe):.4g} G, score {c.score:.3f}"
        )
    return lines


def _kind(candidate: Candidate, recipe: SearchRecipe) -> str:
    if recipe.search.space == "pool":
        draws = recipe.search.next_teacher == "draw" or not candidate.parent
        return _DRAWN if draws else _CHANGED
    return candidate.action.kind if candidate.action else "teacher and size only"


def _action(candidate: Candidate, recipe: SearchRecipe) -> str:
    if not candidate.number:
        return "base"
    if recipe.search.space == "pool":
        return str(candidate.subnet).partition(" @ ")[0]
    return str(candidate.action) if candidate.action else "no change"


def _giga(candidate: Candidate, recipe: SearchRecipe) -> float:
    return getattr(candidate, recipe.score.operations) / 1e9
