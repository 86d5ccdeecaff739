"""The loop: what it draws, what it keeps, and that nothing of it is lost."""

import contextlib
import dataclasses
import json
import os
import resource
import signal
import time
import types

import numpy as np
import pytest
from PIL import Image

from tests.nas import toy_search
from tests.nas.toy_search import ToyWorkers
from tfdet import progress
from tfdet.cli import app
from tfdet.errors import UserError
from tfdet.nas import search as search_lib
from tfdet.nas.candidates import Table, read_table
from tfdet.nas.search_recipe import SearchRecipe
from tfdet.nas.selection import best_candidates, draw_parent, pareto_front


def run(folder, workers, **changes):
    return search_lib.search(toy_search.recipe(**changes), folder, lambda: workers)


def table_text(folder):
    return (folder / "candidates.jsonl").read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder, ToyWorkers())
    return folder


def test_generations_have_their_size_whatever_the_number_of_candidates():
    sizes = [len(numbers) for numbers in search_lib.generations(toy_search.recipe().search)]
    assert sizes == [1, 4, 4, 3]


def test_the_order_in_which_candidates_are_done_changes_nothing(tmp_path, undisturbed):
    run(tmp_path, ToyWorkers(order=lambda jobs: jobs[::-1]))
    assert table_text(tmp_path) == table_text(undisturbed)


def test_another_seed_draws_other_parents(tmp_path, undisturbed):
    run(tmp_path, ToyWorkers(), seed=1)
    ours, theirs = ([row.lineage for row in Table(f).values()] for f in (tmp_path, undisturbed))
    assert ours != theirs


def test_parents_are_of_the_pool_before_their_generation(undisturbed):
    rows = list(Table(undisturbed).values())
    parents = set()
    for row in rows[1:]:
        before = [other for other in rows if other.generation < row.generation]
        pool = best_candidates(before, 3)
        assert len(pool) <= 3
        assert row.parent in [candidate.number for candidate in pool]
        assert row.lineage == (*rows[row.parent].lineage, row.number)
        parents.add(row.parent)
    assert len(parents) > 1


def test_weights_of_pool_and_front_are_kept(undisturbed):
    table = Table(undisturbed)
    rows = list(table.values())
    kept = {c.number for c in [*best_candidates(rows, 3), *pareto_front(rows, "mmdet_flops")]}
    assert set(table.with_weights()) == kept
    best = best_candidates(rows, 1)[0]
    assert tuple(table.weights(best.number)["history"]) == best.lineage
    dropped = next(number for number in table if number not in kept)
    with pytest.raises(UserError, match=f"weights of candidate {dropped} are not kept"):
        table.weights(dropped)


@pytest.mark.parametrize("stop_before", [0, 1, 3, 5, 11])
def test_a_search_that_was_stopped_ends_with_the_same_rows(tmp_path, undisturbed, stop_before):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, ToyWorkers(stop_before=stop_before))
    done = len(Table(tmp_path))
    assert done == stop_before
    again = ToyWorkers()
    run(tmp_path, again)
    assert [job.number for job in again.seen] == list(range(done, 12))
    assert table_text(tmp_path) == table_text(undisturbed)


@pytest.fixture
def hears_interrupts():
    """Python's handler of SIGINT, which shells take from jobs in the background."""
    outer = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, outer)


@pytest.mark.parametrize(
    ("number", "code", "stop_before", "sentence"),
    [
        (
            signal.SIGTERM,
            143,
            6,
            "stopped; 5 of 11 candidates are in {}, and the same command resumes",
        ),
        (
            signal.SIGINT,
            130,
            6,
            "stopped; 5 of 11 candidates are in {}, and the same command resumes",
        ),
        (signal.SIGTERM, 143, 0, "stopped; nothing was measured, and the same command starts"),
    ],
)
def test_a_signal_stops_a_search_with_a_word_on_what_is_kept(
    tmp_path, undisturbed, capsys, hears_interrupts, number, code, stop_before, sentence
):
    workers = ToyWorkers(stop_before=stop_before, stop=lambda: signal.raise_signal(number))
    command = app.Command("tfdet-search", "", "")
    assert command.run(lambda options: run(tmp_path, workers) and 0, []) == code
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"tfdet-search: {sentence.format(tmp_path)}")
    run(tmp_path, ToyWorkers())
    assert table_text(tmp_path) == table_text(undisturbed)


def test_a_finished_search_is_not_done_again(undisturbed):
    again = ToyWorkers()
    run(undisturbed, again)
    assert not again.seen


def test_a_search_can_be_made_longer(tmp_path, undisturbed):
    run(tmp_path, ToyWorkers(), candidates=8)
    again = ToyWorkers()
    run(tmp_path, again, candidates=11)
    assert [job.number for job in again.seen] == [9, 10, 11]
    assert table_text(tmp_path) == table_text(undisturbed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")
def test_nothing_is_lost_by_kills(tmp_path, undisturbed):
    random = np.random.default_rng(0)
    kills = 0
    for _ in range(60):
        child = os.fork()
        if not child:  # pragma: no cover: ends by a signal, or here
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                run(tmp_path, ToyWorkers(seconds=0.02))
            os._exit(0)
        before = len(Table(tmp_path))
        time.sleep(random.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        kills += os.WIFSIGNALED(status)
        assert len(Table(tmp_path)) >= before
        if len(Table(tmp_path)) >= 8:
            break
    assert kills
    run(tmp_path, ToyWorkers())
    assert table_text(tmp_path) == table_text(undisturbed)
    assert not list(tmp_path.rglob(".tmp-*.npz"))


@contextlib.contextmanager
def disk_of(size):
    """Within it no file can grow beyond `size` bytes: writing more fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("what", ["table", "weights"])
def test_a_full_disk_loses_nothing(tmp_path, undisturbed, what):
    line = len(table_text(undisturbed).splitlines()[0])
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, ToyWorkers(stop_before=3))
    before = table_text(tmp_path)
    folder = tmp_path
    table = Table(folder)
    job = dataclasses.replace(_last_job(table), number=3)
    outcome = toy_search.toy_outcome(job)
    weights = {"history": np.zeros(10 * line)} if what == "weights" else outcome.weights
    message = r"candidate 3 could not be written .*the 3 before it are kept.*same command"
    with disk_of(3 * line), pytest.raises(UserError, match=message):
        table.add(outcome.candidate, weights)
    assert table_text(folder) == before
    assert not list(folder.rglob(".tmp-*"))
    run(folder, ToyWorkers())
    assert table_text(folder) == table_text(undisturbed)


def _last_job(table):
    from tfdet.nas.evaluator import Job

    return Job(2, 1, table[0], table[0], table.weights(0))


def test_the_time_left_is_told_by_the_candidates_that_were_trained(tmp_path, capsys, monkeypatch):
    minutes = iter([0, 50, *range(51, 62)])  # the base is measured in 50, a candidate done in 1
    clock = types.SimpleNamespace(monotonic=lambda: 60.0 * next(minutes))
    monkeypatch.setattr(progress, "time", clock)
    run(tmp_path, ToyWorkers())
    told = capsys.readouterr().out.splitlines()
    ends = [line.rpartition("; ")[2] for line in told if "min left" in line]
    assert ends == [f"{left}:00 min left" for left in range(10, 0, -1)]
    assert "min left" not in next(line for line in told if line.startswith("base"))


def test_failed_candidates_are_rows_and_no_parents(tmp_path):
    table = run(tmp_path, ToyWorkers(failing=(1, 2, 6)))
    assert [row.number for row in table.values() if row.failure] == [1, 2, 6]
    assert not {1, 2, 6} & {row.parent for row in table.values()}
    assert "3 failed" in (tmp_path / "report.md").read_text()


def test_a_generation_that_fails_as_a_whole_ends_the_search(tmp_path):
    with pytest.raises(UserError, match=r"candidates from 1 to 4 failed, .* because it broke"):
        run(tmp_path, ToyWorkers(failing=(1, 2, 3, 4)))


def test_another_recipe_in_the_same_folder_is_refused_by_key(undisturbed):
    with pytest.raises(UserError, match=r"search.generation: 3 here, 4 there"):
        run(undisturbed, ToyWorkers(), generation=3)


def test_a_damaged_table_is_told_by_line(tmp_path, undisturbed):
    lines = table_text(undisturbed).splitlines()
    for broken, message in (
        (lines[1][:50], "in line 2"),
        (json.dumps({**json.loads(lines[1]), "scroe": 1}), "in line 2.*did you mean 'score'"),
    ):
        path = tmp_path / "candidates.jsonl"
        path.write_text("\n".join([lines[0], broken]))
        with pytest.raises(UserError, match=message):
            read_table(path)
    path.write_bytes(b"\x9b\xff no text")
    with pytest.raises(UserError, match=r"table .*candidates.jsonl is not .*UTF-8"):
        read_table(path)


def test_damaged_weights_are_told(tmp_path):
    run(tmp_path, ToyWorkers(), candidates=1)
    (tmp_path / "weights" / "0000.npz").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(UserError, match=r"0000.npz is damaged"):
        Table(tmp_path).weights(0)


def test_two_searches_do_not_share_a_folder(tmp_path):
    class Nosy(ToyWorkers):
        def look_at(self, jobs):
            with pytest.raises(UserError, match="another process"):
                run(tmp_path, ToyWorkers())
            return super().look_at(jobs)

    run(tmp_path, Nosy(), candidates=1)


def test_the_page_tells_the_lineage_of_the_best(undisturbed):
    page = (undisturbed / "report.md").read_text()
    best = best_candidates(Table(undisturbed).values(), 1)[0]
    assert f"How candidate {best.number} came about" in page
    for number in best.lineage:
        assert f"\n- {number}: " in page
    for name in ("score.png", "pareto.png"):
        with Image.open(undisturbed / name) as picture:
            assert min(picture.size) > 300


def test_the_best_are_drawn_most_often(undisturbed):
    rows = best_candidates(Table(undisturbed).values(), 3)
    random = np.random.default_rng(0)
    drawn = [draw_parent(rows, (3.0, 2.0, 1.0), random).number for _ in range(3000)]
    counts = [drawn.count(row.number) / 3000 for row in rows]
    assert counts == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=0.03)
    assert draw_parent(rows[:1], (3.0, 2.0, 1.0), random) is rows[0]


def test_nothing_beats_the_front(undisturbed):
    rows = list(Table(undisturbed).values())
    front = pareto_front(rows, "macs")
    for row in rows:
        beaten = any(o.ap >= row.ap and o.macs <= row.macs and o is not row for o in rows)
        assert (row in front) != beaten


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generation": 0}, "search.generation must be at least 1"),
        ({"candidates": 10**9}, "search.candidates must be at most 1048576, got 1000000000"),
        ({"threads": 10**9}, "search.threads must be at most 1024, got 1000000000"),
        ({"rank_weights": ()}, "search.rank_weights must have numbers above 0"),
        ({"batch_norm": "frozen"}, "search.batch_norm must be plain or synchronized"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        toy_search.recipe(**changes)


def test_a_search_without_a_teacher_must_say_so():
    with pytest.raises(UserError, match=r"no teacher: .* set search.distil to false"):
        SearchRecipe(base="runs/base")
