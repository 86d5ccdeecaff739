"""Whether a candidate's short training in a search tells how it comes out when it is fine-tuned.

    python -m benchmarks.candidate_ranking --search_dir=runs/search --output=runs/ranking \\
        --count=8 --seeds=0,1

Candidates are taken from the whole table of the search, at equal distances in the order of their
scores, the best and the worst included. Each is fine-tuned as `tfdet-search --mode=finetune` does
it, with its teacher, once per seed, and measured after the last epoch. A search keeps weights of
its best candidates only: those of the others are made again, by training them and their ancestors
as the search did; with `train.deterministic` they are the same ones.

Writes a row per candidate and seed to OUTPUT/rows.jsonl and a picture, and prints both as Markdown
with Spearman's correlations. What has a row is not trained again.
"""

import argparse
import dataclasses
import gc
import itertools
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tfdet import documents, files
from tfdet.errors import UserError
from tfdet.evaluation.routes import correlations
from tfdet.nas import evaluator, search, student_folder, workers
from tfdet.nas.candidates import Candidate, Table
from tfdet.nas.search_recipe import SearchRecipe
from tfdet.nas.selection import best_candidates
from tfdet.nas.weights import take_weights
from tfdet.visualization import draw

ROWS = "rows.jsonl"


def spread(table: Mapping[int, Candidate], count: int) -> list[Candidate]:
    """`count` candidates at equal distances in the order of their scores, the best first."""
    ranked = best_candidates((row for row in table.values() if row.number), len(table))
    if not ranked:
        raise UserError("the search has no candidate yet")
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked)))
    return [ranked[round(place)] for place in places]


def with_weights(
    recipe: SearchRecipe, table: Table, numbers: Sequence[int], folder: pathlib.Path
) -> Table:
    """The candidates of a search with their weights, made again where the search dropped them.

    Args:
        recipe, table: of the search, which is not changed.
        numbers: the candidates.
        folder: gets a table of what is made again; what stands there is not made another time.

    Returns:
        A table with these candidates among others.
    """
    made, kept = Table(folder), set(table.with_weights())
    is_complete = set(numbers) <= kept | set(made)
    looker = None if is_complete else workers.make_evaluator(recipe)

    def bring(number: int) -> None:
        parent = table[number].parent
        if number in made:
            return
        if number in kept:
            made.add(table[number], table.weights(number))
            return
        if parent is not None:
            bring(parent)
        print(f"candidate {number}: training it as the search did", flush=True)
        made.add(*_made_again(looker, table, number, made))

    for number in numbers:
        bring(number)
    return made


def _made_again(looker: Any, table: Table, number: int, made: Table) -> tuple[Candidate, Any]:
    """A candidate and its weights, by the job that it was in the search."""
    row = table[number]
    if not number:
        return row, take_weights(looker.base)
    weights = made.weights(row.parent)
    job = evaluator.Job(number, row.generation, table[row.parent], table[0], weights)
    again, found = looker.look_at(job)
    if again.failure or again.encoding != row.encoding:
        raise UserError(
            f"candidate {number} could not be made again: {again.failure or 'another encoding'}; "
            "is the search of another version?"
        )
    if again.metrics != row.metrics:
        print(
            f"candidate {number} has AP {100 * again.ap:.2f}, in the search it had "
            f"{100 * row.ap:.2f}; train.deterministic and search.threads make them equal",
            flush=True,
        )
    return again, found


def fine_tuned(
    recipe: SearchRecipe,
    table: Table,
    base: Candidate,
    number: int,
    seed: int,
    output: pathlib.Path,
) -> dict[str, Any]:
    """Fine-tunes a candidate from a seed; its row. It resumes where it was killed.

    Args:
        recipe: of the search.
        table: has the candidate with its weights.
        base: candidate 0.
        number, seed: which one, and of its training.
        output: gets a folder per seed.
    """
    before = time.process_time()
    settings = dataclasses.replace(recipe.finetune, seed=seed)
    # One measurement, at the end: the best of several would be chosen by the validation data.
    once = dataclasses.replace(recipe.eval, interval=settings.num_epochs, pictures=0)
    recipe = dataclasses.replace(recipe, finetune=settings, eval=once)
    folder = output / f"seed_{seed}"
    end = student_folder.finetune(recipe, table, number, folder)
    last = json.loads((end / "logs" / "history.jsonl").read_text().splitlines()[-1])
    gc.collect()
    row = table[number]
    after = dataclasses.replace(row, metrics={"AP": last["AP"]})
    return {
        "candidate": number,
        "seed": seed,
        "encoding": row.encoding,
        "image_size": row.image_size,
        "parameters": row.parameters,
        "operations": getattr(row, recipe.score.operations),
        "short_AP": round(100 * row.ap, 4),
        "short_score": round(row.score, 4),
        "AP": round(100 * last["AP"], 4),
        "score": round(evaluator.score_of(after, base, recipe.score), 4),
        "cpu_minutes": round((time.process_time() - before) / 60, 2),
    }


def related(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Spearman's correlations over the candidates, by what is set beside what.

    Values of fine-tuned candidates are means over the seeds; "AP of seed A, AP of seed B" is how
    well the seeds agree, which no short training can surpass by much. None where a value is the
    same for all candidates, or where there is one candidate.
    """
    seeds = sorted({row["seed"] for row in rows})
    common = [n for n in _numbers(rows) if len(_of(rows, n)) == len(seeds)]
    mean = {
        name: np.array([np.mean([row[name] for row in _of(rows, n)]) for n in common])
        for name in ("short_score", "short_AP", "score", "AP")
    }
    pairs = {
        f"{first}, {second}": (mean[first], mean[second])
        for first, second in (("short_score", "AP"), ("short_AP", "AP"), ("short_score", "score"))
    }
    by_seed = {
        seed: np.array([row["AP"] for n in common for row in _of(rows, n) if row["seed"] == seed])
        for seed in seeds
    }
    for seed, values in by_seed.items():
        pairs[f"short_score, AP of seed {seed}"] = mean["short_score"], values
    for one, other in itertools.pairwise(seeds):
        pairs[f"AP of seed {one}, AP of seed {other}"] = by_seed[one], by_seed[other]
    return {
        name: correlations(*pair)["spearman"] if len(common) > 1 else None
        for name, pair in pairs.items()
    }


def _numbers(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    return list(dict.fromkeys(row["candidate"] for row in rows))


def _of(rows: Sequence[Mapping[str, Any]], number: int) -> list[Mapping[str, Any]]:
    return sorted((row for row in rows if row["candidate"] == number), key=lambda row: row["seed"])


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of the candidates, and one of the correlations."""
    seeds = sorted({row["seed"] for row in rows})
    heads = ["candidate", "parameters (M)", "operations (M)", "AP in the search", "score"]
    heads += [f"AP fine-tuned, seed {seed}" for seed in seeds]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for number in _numbers(rows):
        own = _of(rows, number)
        by_seed = {row["seed"]: f"{row['AP']:.1f}" for row in own}
        cells = [
            *(str(number), f"{own[0]['parameters'] / 1e6:.3f}"),
            *(f"{own[0]['operations'] / 1e6:.1f}", f"{own[0]['short_AP']:.1f}"),
            *(f"{own[0]['short_score']:.3f}", *(by_seed.get(seed, "-") for seed in seeds)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| | Spearman |", "|---|---|"]
    for name, value in related(rows).items():
        lines.append(f"| {name} | {'-' if value is None else f'{value:+.2f}'} |")
    return "\n".join(lines)


def picture(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draws AP after fine-tuning over the score in the search: each seed, and the means."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for color, seed in enumerate(sorted({row["seed"] for row in rows})):
        own = [row for row in rows if row["seed"] == seed]
        points = [row["short_score"] for row in own], [row["AP"] for row in own]
        axes.plot(*points, "o", color=f"C{color}", alpha=0.6, label=f"seed {seed}")
    for number in _numbers(rows):
        own = _of(rows, number)
        place = own[0]["short_score"], float(np.mean([row["AP"] for row in own]))
        axes.annotate(str(number), place, fontsize=8, xytext=(5, 0), textcoords="offset points")
    axes.set(xlabel="score after the short training", ylabel="AP when fine-tuned")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    draw.save_figure(path, figure)


def run(
    search_dir: pathlib.Path, output: pathlib.Path, count: int, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Fine-tunes what has no row yet; the rows of the chosen candidates and seeds."""
    recipe, table = search.load_search(search_dir)
    if recipe.search.space == "pool":
        raise UserError(f"candidates of {search_dir} are subnets, which no training came to")
    evaluator.prepare_process(recipe)
    chosen = spread(table, count)
    print(f"candidates {', '.join(str(one.number) for one in chosen)}", flush=True)
    rows = _read(output / ROWS, table)
    wanted = [(one.number, seed) for seed in seeds for one in chosen]
    missing = [pair for pair in wanted if pair not in rows]
    numbers = list(dict.fromkeys(number for number, _ in missing))
    made = with_weights(recipe, table, numbers, output / "candidates")
    for number, seed in missing:
        rows[number, seed] = row = fine_tuned(recipe, made, table[0], number, seed, output)
        text = "".join(json.dumps(one) + "\n" for one in rows.values())
        files.write_text(output / ROWS, text)
        print(f"candidate {number}, seed {seed}: AP {row['AP']:.1f}", flush=True)
    return [rows[one.number, seed] for one in chosen for seed in seeds]


def _read(path: pathlib.Path, table: Table) -> dict[tuple[int, int], dict[str, Any]]:
    """The rows that are there, by candidate and seed."""
    if not path.is_file():
        return {}
    text = documents.read_text(path, "rows")
    rows = [documents.parse_json(line, str(path)) for line in text.splitlines()]
    for row in rows:
        number = row["candidate"]
        if number not in table or table[number].encoding != row["encoding"]:
            raise UserError(f"{path} has rows of another search; give another --output")
    return {(row["candidate"], row["seed"]): row for row in rows}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--search_dir", type=pathlib.Path, required=True, help="of tfdet-search")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder, outside of it")
    parser.add_argument("--count", type=int, default=8, help="candidates")
    parser.add_argument("--seeds", default="0,1", help="with commas between")
    options = parser.parse_args(argv)
    if options.count < 2:
        parser.error("--count must be 2 or more")
    seeds = [int(word) for word in options.seeds.split(",")]
    try:
        rows = run(options.search_dir, options.output, options.count, seeds)
    except UserError as error:
        raise SystemExit(f"benchmarks.candidate_ranking: {error}") from None
    picture(options.output / "ranking.png", rows)
    print(page(rows))


if __name__ == "__main__":
    main()
