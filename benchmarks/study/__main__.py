"""Runs studies, and renders their pages from the rows that they left.

    python -m benchmarks.study configs/studies/packdet.yaml     run what is missing, then render
    python -m benchmarks.study configs/studies/*.yaml --jobs=2  the whole set, two runs at a time
    python -m benchmarks.study configs/studies/packdet.yaml --arms=fcos,packdet --seeds=0
    python -m benchmarks.study configs/studies/*.yaml --jobs=16 --ray_address=head:6379
    python -m benchmarks.study --render                         all pages that have rows

Every run is a process of its own and leaves a row in benchmarks/figures/studies/NAME.jsonl, which
is committed. A row that is there is not run again, and a run that was killed resumes. Weights and
logs go to --runs_dir, outside of the repository.
"""

import argparse
import pathlib
import signal
import sys

from benchmarks.study import page, plan, rows, runner
from tfdet import cache_folder
from tfdet.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
STUDIES = ROOT / "configs" / "studies"
PAGES = ROOT / "docs" / "studies"


def main() -> None:
    # The run of this moment ends too, so that the next command finds its folder free.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(arguments())
    except UserError as error:
        sys.exit(f"benchmarks.study: {error}")
    except KeyboardInterrupt:
        sys.exit("benchmarks.study: stopped; the same command resumes")


def run(options: argparse.Namespace) -> None:
    """Runs and renders what was asked for."""
    if options.render and not options.studies:
        options.studies = sorted(STUDIES.glob("*.yaml"))
    studies = [plan.read(path) for path in options.studies]
    for study in [] if options.render else studies:
        chosen = runner.choose(study, options.arms, options.seeds)
        runs_dir = options.runs_dir / study.name
        runner.run(study, chosen, runs_dir, options.rows_dir, options.jobs, options.ray_address)
        if study.times:
            runner.take_times(study, runs_dir, options.rows_dir)
    for study in studies:
        found = rows.read(study, options.rows_dir)
        if found:
            print(f"wrote {page.write(study, found, options.pages_dir)}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("studies", nargs="*", type=pathlib.Path, help="YAML files")
    parser.add_argument("--render", action="store_true", help="run nothing, render the pages")
    parser.add_argument("--arms", type=_words, help="these only, with commas between")
    parser.add_argument("--seeds", type=_numbers, help="these only, with commas between")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the cores")
    parser.add_argument(
        "--ray_address", default="", help="host:port of a Ray cluster; it sees the same files"
    )
    parser.add_argument("--runs_dir", type=pathlib.Path, default=cache_folder.path() / "studies")
    parser.add_argument("--rows_dir", type=pathlib.Path, default=rows.FOLDER)
    parser.add_argument("--pages_dir", type=pathlib.Path, default=PAGES)
    options = parser.parse_args()
    if not options.studies and not options.render:
        parser.error("name a study, such as configs/studies/packdet.yaml, or give --render")
    if options.jobs < 1:
        parser.error("--jobs must be 1 or more")
    return options


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    return [int(word) for word in _words(text)]


if __name__ == "__main__":
    main()
