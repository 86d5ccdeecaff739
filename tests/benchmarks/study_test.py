"""Studies: what their files may say, which runs are made, and that pages are of their rows."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tfdet
from benchmarks.study import (
    measure,
    page,
    pictures,
    plan,
    rows,
    runner,
    statistics,
    usual_route,
)
from benchmarks.study.__main__ import PAGES, ROOT, STUDIES
from tests import ray_cluster
from tests.nas import small_search
from tfdet import config, profiling, registry
from tfdet.errors import UserError

FILES = sorted(STUDIES.glob("*.yaml"))
TINY = """
title: Two tiny detectors
asked: Which finds more?
seeds: [0, 1]
changes:
  model: {image_size: [64, 64]}
  data: {train: "shapes:train:8", val: "shapes:val:4", cache: true}
  train: {batch_size: 4, num_epochs: 2, warmup_epochs: 0}
arms:
  fcos: {title: FCOS, recipe: RECIPE}
  wide: {title: wider, recipe: RECIPE, changes: {model.head_filters: 24}}
  longer: {title: trained twice, recipe: RECIPE, start: fcos, changes: {train.learning_rate: 0.01}}
compare: [[wide, fcos], [longer, fcos]]
columns: [AP, parameters]
times: true
"""


@pytest.fixture
def study_file(tmp_path) -> pathlib.Path:
    recipe = tmp_path / "fcos_test.yaml"
    recipe.write_text("model: {name: fcos-test}\n")
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.replace("RECIPE", str(recipe)))
    return path


@pytest.fixture
def study(study_file) -> plan.Study:
    return plan.read(study_file)


def row_of(study: plan.Study, arm: str, seed: int, **values: float) -> dict:
    made = {"commit": "abc", "machine": "a machine"}
    return {
        "arm": arm,
        "seed": seed,
        "plan": rows.plan_of(study, arm, seed),
        "values": values,
        **made,
    }


# What a file may say


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_every_study_of_the_repository_can_be_run(path):
    study = plan.read(path)
    assert f"python -m benchmarks.study configs/studies/{path.name}" in path.read_text()
    assert study.asked.strip().endswith("?")
    for arm in study.arms:
        for recipe in study.recipes(arm, study.seeds_of(arm)[0]):
            is_search = study.arms[arm].command == "search"  # which takes the data of its base
            assert is_search or (recipe.data.train and recipe.data.val)


def test_all_arms_of_a_seed_come_before_the_next(study):
    assert list(study.runs()) == [(a, s) for s in (0, 1) for a in ("fcos", "wide", "longer")]


def test_seeds_and_changes_reach_the_recipes(study):
    (recipe,) = study.recipes("wide", 1)
    assert recipe.train.seed == 1 and recipe.train.batch_size == 4
    assert recipe.model["head_filters"] == 24 and recipe.model["name"] == "fcos-test"
    # One measurement, at the end.
    assert recipe.eval.interval == recipe.train.num_epochs == 2


@pytest.mark.parametrize(
    "old, new, piece",
    [
        ("[[wide, fcos]", "[[wide, fcs]", "did you mean 'fcos'"),
        ("start: fcos", "start: later", "must be an arm above it"),
        ("title: wider", "titel: wider", "unknown key 'arms.wide.titel'"),
        ("arms:", "arm:", "such as title, seeds and arms"),
        ("asked: Which finds more?\n", "", "lacks the key 'asked'"),
        ("start: fcos", "start: fcos, seeds: [7]", "has seeds that 'fcos' lacks"),
    ],
)
def test_mistakes_in_a_file_are_named(study_file, old, new, piece):
    study_file.write_text(study_file.read_text().replace(old, new))
    with pytest.raises(UserError, match=piece.replace("[", r"\[")):
        plan.read(study_file)


def test_the_model_of_another_arm_is_a_value(study_file):
    study_file.write_text(
        study_file.read_text()
        .replace("start: fcos, ", "")
        .replace("{train.learning_rate: 0.01}", '{train: {pretrained: "arm:wide"}}')
    )
    study = plan.read(study_file)
    assert study.arms["longer"].needs == ["wide"]
    assert runner.choose(study, ["longer"], [0]) == [("wide", 0), ("longer", 0)]
    (recipe,) = study.recipes("longer", 0, {"wide": "runs/wide_0"})
    assert recipe.train.pretrained == "runs/wide_0"
    assert rows.plan_of(study, "longer", 0)[-1]["train.pretrained"] == "arm:wide"


def test_a_wrong_key_of_a_recipe_is_named(study_file):
    study_file.write_text(study_file.read_text().replace("head_filters", "head_fitlers"))
    with pytest.raises(UserError, match="head_filters"):
        plan.read(study_file).recipes("wide", 0)


# Which runs are made


def test_an_arm_brings_the_one_that_it_starts_from(study):
    assert runner.choose(study, ["longer"], [1]) == [("fcos", 1), ("longer", 1)]
    with pytest.raises(UserError, match="did you mean 'wide'"):
        runner.choose(study, ["wyde"])
    with pytest.raises(UserError, match="no such seeds"):
        runner.choose(study, None, [5])


def test_rows_replace_each_other_and_keep_the_order_of_runs(study, tmp_path):
    for arm, seed, value in (("wide", 1, 3.0), ("fcos", 0, 1.0), ("wide", 1, 4.0)):
        rows.add(study, row_of(study, arm, seed, AP=value), tmp_path)
    found = [(x["arm"], x["seed"], x["values"]["AP"]) for x in rows.read(study, tmp_path)]
    assert found == [("fcos", 0, 1.0), ("wide", 1, 4.0)]


def test_a_row_of_other_recipes_does_not_count(study, study_file, tmp_path):
    rows.add(study, row_of(study, "wide", 0, AP=1.0), tmp_path)
    rows.add(study, row_of(study, "longer", 0, AP=1.0), tmp_path)
    changed = study_file.read_text().replace("head_filters: 24", "head_filters: 32")
    study_file.write_text(changed)
    assert [row["arm"] for row in rows.read(plan.read(study_file), tmp_path)] == ["longer"]
    # Nor where what an arm starts from has other recipes.
    study_file.write_text(
        changed.replace("title: FCOS,", "title: FCOS, changes: {train.momentum: 0},")
    )
    assert rows.read(plan.read(study_file), tmp_path) == []


# What comes out


def test_quantiles_are_those_of_the_t_distribution():
    for degrees, quantile in enumerate(statistics.T_975, 1):
        # Of x = sqrt(n) tan(a) the density is proportional to cos(a) ** (n - 1).
        angles = np.linspace(-np.pi / 2, np.pi / 2, 200_001)
        density = np.cos(angles) ** (degrees - 1)
        below = angles < np.arctan(quantile / np.sqrt(degrees))
        assert density[below].sum() / density.sum() == pytest.approx(0.975, abs=2e-5), degrees


def test_paired_differences_take_the_seeds_that_both_have():
    found = statistics.difference(
        {0: 1.0, 1: 4.0, 2: 6.0, 7: 0.0}, {0: 0.0, 1: 2.0, 2: 3.0, 8: 1.0}
    )
    assert (found.mean, found.pairs) == (2.0, 3)
    assert found.half_width == pytest.approx(4.3027 / 3**0.5)
    assert not found.is_clear
    assert statistics.difference({0: 1.0}, {0: 3.0}) == statistics.Difference(-2.0, None, 1)
    assert statistics.difference({0: 1.0}, {1: 3.0}) is None


def test_a_page_has_means_spreads_and_intervals(study):
    found = [
        row_of(study, arm, seed, AP=value, parameters=1.5)
        for arm, values in {"fcos": (10.0, 20.0), "wide": (13.0, 25.0)}.items()
        for seed, value in enumerate(values)
    ]
    text = page.render(study, found)
    assert "| FCOS | 2 | 15.0 ± 7.1 | 1.500 |" in text
    assert "| wider − FCOS | 2 | +4.0 (−8.7 to +16.7) |" in text
    assert "Of 6 runs 4 are there." in text
    assert "trained twice" not in text


def test_placeholders_are_filled_from_rows(study_file):
    text = study_file.read_text() + "found: It has {AP[wide]}, {AP[wide - fcos]}.\n"
    study_file.write_text(text)
    study = plan.read(study_file)
    found = [row_of(study, arm, 0, AP=value) for arm, value in (("fcos", 10.0), ("wide", 8.0))]
    assert "Which finds more? It has 8.0, −2.0 (one pair)." in page.render(study, found)
    with pytest.raises(UserError, match="placeholder"):
        page.render(study, found[:1])


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_pages_are_those_of_the_committed_rows(path):
    study = plan.read(path)
    found, written = rows.read(study), PAGES / f"{path.stem}.md"
    if not found:
        assert not written.exists(), "a page without rows"
        return
    stored = len((rows.FOLDER / f"{path.stem}.jsonl").read_text().splitlines())
    assert stored == len(found), "rows of other recipes than the study has; run it again"
    assert written.read_text() == page.render(study, found), (
        "run python -m benchmarks.study --render"
    )
    assert all((PAGES / name).is_file() for name in pictures.names(study, found))


def test_pictures_are_drawn_of_what_the_rows_have(study, tmp_path):
    node = {"scale": 0, "open": 0.25}
    routed = {"routes": {"nodes": [{**node, "layer": 0}, {**node, "layer": 1}]}}
    cascade = {"gains": [0.1, -0.2, 0.3, 0.0], "easiness": [0.9, 0.1, 0.4, 0.5]}
    found = [
        {**row_of(study, "fcos", 0, AP=1.0), **routed},
        {**row_of(study, "wide", 0, AP=2.0), **cascade},
    ]
    page.write(study, found, tmp_path)
    kinds = ("", "_routes", "_gains", "_gallery")
    assert {path.name for path in tmp_path.glob("*.png")} == {f"tiny{kind}.png" for kind in kinds}
    assert all(
        f"]({path.name})" in (tmp_path / "tiny.md").read_text() for path in tmp_path.glob("*.png")
    )


def test_a_column_can_be_a_difference_of_two(study):
    found = [row_of(study, "fcos", seed, AP=10.0 + seed, AP50=20.0) for seed in (0, 1)]
    chosen = dataclasses.replace(study, columns=("AP", "AP50 - AP"), found="By {AP50 - AP[fcos]}.")
    text = page.render(chosen, found)
    half = statistics.T_975[0] * 0.5
    cell = f"+9.5 ({9.5 - half:+.1f} to {9.5 + half:+.1f})"
    assert "| | runs | AP | AP50 \N{MINUS SIGN} AP |" in text
    assert f"| 10.5 ± 0.7 | {cell} |" in text
    assert f"By {cell}." in text


def test_the_gallery_leaves_out_images_of_others(study, tmp_path):
    found = [{**row_of(study, "wide", 0, AP=2.0), "gains": [0.1, 0.2], "easiness": [0.9, 0.1]}]
    page.write(dataclasses.replace(study, unpictured=("wide",)), found, tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"tiny.png", "tiny_gains.png"}
    assert "_gallery.png" not in (tmp_path / "tiny.md").read_text()


def test_a_page_says_whether_seeds_agree_on_the_images(study):
    gains, scores = [0.1, 0.2, 0.3, 0.4], [0.9, 0.7, 0.6, 0.1]
    runs = [(gains, scores), (gains[::-1], scores), (gains, [0.5] * 4)]
    found = [
        {**row_of(study, "wide", seed, AP=2.0), "gains": gained, "easiness": easy}
        for seed, (gained, easy) in enumerate(runs)
    ]
    line = "| wider | 0.00 (−1.00 to +1.00) | −0.33 (−1.00 to +1.00) | +1.00 |"
    assert line in page.render(study, found)
    one = page.render(study, found[:1])
    assert "| wider | −1.00 | - | - |" in one
    assert "Spearman" not in page.render(study, [row_of(study, "wide", 0, AP=2.0)])


def test_every_page_is_of_a_study():
    names = {path.stem for path in FILES} | {"README"}
    assert {path.stem for path in PAGES.glob("*.md")} <= names
    assert {path.stem for path in rows.FOLDER.glob("*.jsonl")} <= names


# A run, and the command


def values_of_run(tmp_path, *recipes: dict) -> dict:
    """What a run of these steps leaves; each begins with the weights of the one before."""
    before = ""
    for number, changes in enumerate(recipes, 1):
        data = {"data.train": "shapes:train:8", "data.val": "shapes:val:6", "data.cache": True}
        train = {"train.batch_size": 4, "train.num_epochs": 1, "train.warmup_epochs": 0}
        own = {"model.image_size": [64, 64], "train.pretrained": before, "eval.pictures": 0}
        recipe = config.make_recipe((), {**data, **train, **own, **changes})
        config.save_recipe(recipe, tmp_path / f"plan_{number}.yaml")
        before = str(tmp_path / f"step_{number}")
    measure.run(tmp_path)
    result = json.loads((tmp_path / measure.RESULT).read_text())
    assert result["model_dir"] == before
    return result


def test_a_run_leaves_scores_and_counts(tmp_path):
    values = values_of_run(tmp_path, {"model.name": "fcos-test"})["values"]
    profile = profiling.profile("fcos-test", (64, 64))
    assert values["macs"] == pytest.approx(profile.macs / 1e6, abs=1e-4)
    assert 0 <= values["AP"] <= values["AP50"] <= 100
    assert values["loss"] > 0 and values["cpu_minutes"] > 0


@pytest.mark.slow
def test_a_caddet_is_measured_with_its_routes(tmp_path):
    result = values_of_run(tmp_path, {"model.name": "caddet-test"})
    values, nodes = result["values"], result["routes"]["nodes"]
    assert values["macs_min"] <= values["macs"] <= values["macs_max"]
    assert {f"open_P{level}" for level in range(3, 7)} <= values.keys()
    assert values["gates"] == sum(len(node["paths"]) for node in nodes)
    assert 0 < values["soft_cost"] < 100 and -1 <= values["soft_intervals"] <= 1
    assert values["usual_AP"] >= 0 and values["usual_macs"] > 0


def test_details_are_a_table_of_the_arms_that_have_them(study):
    study = dataclasses.replace(study, details=("macs_std", "hamming"))
    found = [row_of(study, "fcos", 0, AP=1.0), row_of(study, "wide", 0, AP=2.0, hamming=3.0)]
    text = page.render(study, found)
    assert "| | runs | gates in which two images differ |" in text
    assert text.count("| wider | 1 |") == 2 and text.count("| FCOS | 1 |") == 1


def test_a_route_is_usual_where_at_least_half_of_the_images_have_it():
    gates = np.array([[0.2, 0.0, 0.0, 0.8], [0.4, 0.6, 0.0, 0.0], [0.6, 0.0, 0.9, 0.4]])
    np.testing.assert_allclose(usual_route.usual(gates), [0.4, 0, 0, 0.6])


@pytest.mark.parametrize("gate", ["tanh", "sigmoid"])
def test_all_images_take_one_route_where_routers_say_it(gate):
    grid = dataclasses.replace(registry.config("caddet-test").supernet, gate=gate)
    model = tfdet.create("caddet-test", num_classes=2, supernet=grid)
    images = np.random.default_rng(0).uniform(0, 255, (3, 64, 64, 3)).astype(np.float32)
    assert np.ptp(np.asarray(model(images)["gates"]), axis=0).max() > 0
    route = 0.5 * grid.route("cheapest")
    usual_route.take(model, route)
    np.testing.assert_allclose(model(images)["gates"], np.tile(route, (3, 1)), atol=1e-6)


@pytest.mark.slow
def test_a_cascade_is_measured_as_a_trade_off(tmp_path):
    name = {"model.name": "dy-efficientdet-test"}
    result = values_of_run(tmp_path, name, {**name, "model.step": "router"})
    assert {"gain_router", "gain_random", "gain_oracle"} <= result["values"].keys()
    assert result["values"]["first_macs"] < result["values"]["second_macs"]
    assert len(result["gains"]) == len(result["easiness"]) == 6
    followed = {f"easiness_{trait}" for trait in ("objects", "size", "difficulty")}
    assert followed <= result["values"].keys()
    assert all(-1 <= result["values"][name] <= 1 for name in followed)


@pytest.mark.slow
def test_a_search_is_measured_by_its_fine_tuned_student(tmp_path):
    base = small_search.write_detector(tmp_path / "base", small_search.BASE)
    teacher = small_search.write_detector(tmp_path / "larger", small_search.LARGER)
    folder = tmp_path / "run"
    folder.mkdir()
    config.save_recipe(small_search.recipe(base, teacher), folder / "plan_1.yaml")
    measure.run(folder)
    result = json.loads((folder / measure.RESULT).read_text())
    assert "finetuned_" in result["model_dir"]
    assert result["values"]["search_AP"] >= 0 and result["values"]["search_score"] > 0
    assert result["values"]["loss"] > 0


def command_in(study_file, folder: pathlib.Path, *flags: str) -> list[str]:
    """The command of the study's first seed, with all that it writes in a folder."""
    folders = [f"--{kind}_dir={folder / kind}" for kind in ("runs", "rows", "pages")]
    return [
        sys.executable,
        "-m",
        "benchmarks.study",
        str(study_file),
        "--seeds=0",
        *folders,
        *flags,
    ]


@pytest.mark.slow
def test_a_study_runs_on_a_cluster(study_file, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="ray, an optional extra, is not installed")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with ray_cluster.started() as address:
        command = command_in(study_file, tmp_path, "--jobs=2", f"--ray_address={address}")
        subprocess.run(command, cwd=ROOT, check=True, timeout=1200)
    found = rows.read(plan.read(study_file), tmp_path / "rows")
    assert {row["arm"] for row in found} == {"fcos", "wide", "longer"}
    assert all(row["values"]["loss"] > 0 for row in found)


@pytest.mark.slow
def test_a_study_that_is_killed_resumes_and_comes_to_the_same_rows(study_file, tmp_path):
    # Two at a time, of which the third waits for the one that it starts from.
    subprocess.run(
        command_in(study_file, tmp_path / "whole", "--jobs=2"), cwd=ROOT, check=True, timeout=1200
    )
    begun = subprocess.Popen(
        command_in(study_file, tmp_path / "killed"), cwd=ROOT, start_new_session=True
    )
    second = tmp_path / "killed" / "runs" / "tiny" / "wide_0" / "step_1" / "recipe.yaml"
    deadline = time.monotonic() + 600
    while not second.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    rows_file = tmp_path / "killed" / "rows" / "tiny.jsonl"
    assert [json.loads(x)["arm"] for x in rows_file.read_text().splitlines()] == ["fcos"]
    done = subprocess.run(
        command_in(study_file, tmp_path / "killed"),
        cwd=ROOT,
        check=True,
        timeout=1200,
        capture_output=True,
        text=True,
    )
    assert "[1/3] tiny: fcos, seed 0: done" in done.stdout
    study, folders = plan.read(study_file), (tmp_path / "whole" / "rows", rows_file.parent)
    found = [{(x["arm"], x["seed"]): x["values"] for x in rows.read(study, y)} for y in folders]
    for values in (values for one in found for values in one.values()):
        assert values["loss"] > 0 and values.pop("cpu_minutes") > 0 and values.pop("ms") > 0
    assert set(found[0]) == {("fcos", 0), ("wide", 0), ("longer", 0)}
    assert found[0] == found[1]
    assert (tmp_path / "killed" / "pages" / "tiny.png").is_file()
    assert "| FCOS | 1 |" in (tmp_path / "killed" / "pages" / "tiny.md").read_text()
