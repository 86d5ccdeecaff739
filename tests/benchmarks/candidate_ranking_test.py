"""Candidates of a search against their fine-tuning: choice, ranks, and a whole run."""

import json

import pytest

from benchmarks import candidate_ranking
from tests.nas import small_search, toy_search
from tests.nas.toy_search import ToyWorkers
from tfdet.errors import UserError
from tfdet.nas import evaluator, search, workers
from tfdet.nas.candidates import Table
from tfdet.training import trained


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    search.search(toy_search.recipe(), folder, lambda: ToyWorkers(failing=(3,)))
    return Table(folder)


def test_candidates_are_spread_over_all_scores(toy):
    scores = sorted((row.score for row in toy.values() if row.number not in (0, 3)), reverse=True)
    assert [row.score for row in candidate_ranking.spread(toy, 100)] == scores
    chosen = [row.score for row in candidate_ranking.spread(toy, 4)]
    assert chosen == [scores[0], scores[3], scores[6], scores[9]]


def rows(values):
    """Rows of candidates from (score, AP of each seed)."""
    return [
        {"candidate": number, "seed": seed, "short_score": short, "short_AP": -short, "AP": ap}
        | {"score": short + seed, "parameters": 1, "operations": 1}
        for number, (short, *aps) in enumerate(values)
        for seed, ap in enumerate(aps)
    ]


def test_ranks_are_related_over_the_means_of_the_seeds():
    found = candidate_ranking.related(rows([(1, 10, 12), (2, 20, 15), (4, 16, 90), (3, 5, 50)]))
    # Means 11, 17.5, 53, 27.5 are in the order of the scores; the first seed's are not.
    assert found["short_score, AP"] == pytest.approx(1)
    assert found["short_AP, AP"] == pytest.approx(-1)
    assert found["short_score, score"] == pytest.approx(1)
    # Ranks 2, 4, 3, 1 of seed 0 against 1, 2, 4, 3: 1 - 6 * (1 + 4 + 1 + 4) / (4 * 15).
    assert found["short_score, AP of seed 0"] == pytest.approx(0, abs=1e-9)
    assert found["AP of seed 0, AP of seed 1"] == pytest.approx(1 - 6 * (1 + 4 + 1 + 4) / 60)


def test_unfinished_candidates_and_single_ones_are_not_related():
    some = rows([(1, 10, 12), (2, 20, 15)])
    assert set(candidate_ranking.related(some[:3]).values()) == {None}
    assert candidate_ranking.related(rows([(1, 5), (2, 5)]))["short_score, AP"] is None
    assert "| 1 | 0.000 | 0.0 | -2.0 | 2.000 | 20.0 | - |" in candidate_ranking.page(some[:3])


@pytest.mark.slow
def test_a_run_makes_dropped_candidates_again_and_resumes(
    tmp_path, capsys, monkeypatch, without_graphs
):
    monkeypatch.setattr(evaluator, "prepare_process", lambda recipe: None)  # it has computed
    base = small_search.write_detector(tmp_path / "base", small_search.BASE)
    hparams = (
        "search.distil=false,search.candidates=2,search.generation=1,search.steps=1,"
        "search.rank_weights=[1],finetune.num_epochs=1,finetune.warmup_epochs=0,search.sizes=[]"
    )
    recipe = small_search.recipe(base, hparams=hparams)
    looker = workers.make_evaluator(recipe)
    search.search(recipe, tmp_path / "search", lambda: workers.ThisProcess(looker))
    table = Table(tmp_path / "search")
    table.drop_weights([0])
    argv = [f"--search_dir={table.folder}", f"--output={tmp_path / 'out'}", "--seeds=3"]
    candidate_ranking.main([*argv, "--count=2"])
    said = capsys.readouterr().out
    assert "candidate 1: training it as the search did" in said and "| short_score, AP |" in said
    made = Table(tmp_path / "out" / "candidates")
    assert {1, 2} <= set(made.with_weights())
    for number in (1, 2):
        assert made[number].encoding == table[number].encoding
        assert made[number].losses == pytest.approx(table[number].losses, rel=1e-3)
    text = (tmp_path / "out" / "rows.jsonl").read_text()
    found = [json.loads(line) for line in text.splitlines()]
    assert [(row["candidate"], row["seed"]) for row in found] == [
        (one.number, 3) for one in candidate_ranking.spread(table, 2)
    ]
    tuned = trained.trained_recipe(tmp_path / "out" / "seed_3" / "finetuned_0001")
    assert tuned.train.seed == 3
    candidate_ranking.main([*argv, "--count=2"])
    assert "training it" not in capsys.readouterr().out
    assert (tmp_path / "out" / "rows.jsonl").read_text() == text
    assert (tmp_path / "out" / "ranking.png").is_file()


def test_rows_of_another_search_are_refused(toy, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"candidate": 1, "seed": 0, "encoding": "[]"}\n')
    with pytest.raises(UserError, match="rows of another search; give another --output"):
        candidate_ranking._read(path, toy)


def test_folders_without_a_search_are_refused(tmp_path):
    argv = [f"--search_dir={tmp_path}", f"--output={tmp_path / 'a'}"]
    with pytest.raises(SystemExit, match=r"candidate_ranking: .* is not the folder of a search"):
        candidate_ranking.main(argv)
