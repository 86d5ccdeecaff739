import pytest
from absl import logging

from tfdet import config, renames
from tfdet.nas.search_recipe import SearchRecipe

BIASES = "(bias|beta)$"


@pytest.fixture
def warnings(monkeypatch):
    """The sentences that were written."""
    found = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: found.append(text % args))
    return found


def rates(*hparams, **changes):
    return config.make_recipe(hparams, changes).train.rates


def test_an_old_key_is_read_as_the_new_one_and_the_user_is_told_once(warnings):
    assert rates("train.bias_factor=2") == ((BIASES, 2.0),)
    assert warnings == [
        f"train.bias_factor=2 is an old key, read as train.rates=[['{BIASES}', 2]]; write that "
        "instead, the next release does not read the old one"
    ]


def test_both_factors_become_two_rules(warnings):
    both = "train.bias_factor=2,train.router_factor=2.5"
    assert rates(both) == rates("train.bias_factor=2", "train.router_factor=2.5")
    assert rates(both) == ((BIASES, 2.0), ("router", 2.5))


def test_a_folder_of_before_with_the_defaults_is_read_in_silence(tmp_path, warnings):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: {name: fcos-test}\ntrain: {bias_factor: 1.0, router_factor: 1.0}\n")
    assert config.load_recipe(path) == config.make_recipe(["model.name=fcos-test"])
    assert config.make_recipe([str(path), "train.rates=[[neck, 3]]"]).train.rates == (("neck", 3),)
    assert warnings == []


def test_a_later_old_key_changes_its_own_rule_only(warnings):
    new = f"train.rates=[[neck, 3], ['{BIASES}', 2]]"
    assert rates(new, "train.bias_factor=4") == (("neck", 3.0), (BIASES, 4.0))
    assert rates(new, "train.bias_factor=1") == (("neck", 3.0),)
    assert rates(new, "train.router_factor=1") == (("neck", 3.0), (BIASES, 2.0))
    assert rates(new, **{"train.bias_factor": 1.0}) == (("neck", 3.0),)
    assert len(warnings) == 3


def test_both_trainings_of_a_search_are_read(warnings):
    recipe = config.make_recipe(
        ["train.bias_factor=2,finetune.bias_factor=3"], {"base": "x", "teacher": "y"}, SearchRecipe
    )
    assert recipe.train.rates == ((BIASES, 2.0),)
    assert recipe.finetune.rates == ((BIASES, 3.0),)


def test_the_callers_data_stays_as_it_is(warnings):
    data = {"train": {"bias_factor": 2.0, "seed": 1}, "model": {"name": "fcos-test"}}
    read = renames.current(data)
    assert read == {
        "train": {"rates": [[BIASES, 2.0]], "seed": 1},
        "model": {"name": "fcos-test"},
    }
    assert data["train"] == {"bias_factor": 2.0, "seed": 1}
    assert renames.current(read) == read


def test_a_key_may_move_to_another_section(monkeypatch, warnings):
    moved = {"train.frozen": ("model.frozen.expression", lambda old, present: old or present)}
    monkeypatch.setattr(renames, "RENAMED", moved)
    assert renames.current({"train": {"frozen": "neck"}}) == {
        "train": {},
        "model": {"frozen": {"expression": "neck"}},
    }
    assert len(warnings) == 1
    assert renames.current({"train": {"frozen": ""}}) == {"train": {}}
    assert renames.current({"train": 3}) == {"train": 3}
    assert len(warnings) == 1


def test_the_old_name_of_the_published_wave_keeps_its_meaning(tmp_path, warnings):
    path = tmp_path / "recipe.yaml"
    path.write_text("train: {schedule: cosine}\nmodel: {name: fcos-test}\n")
    assert config.load_recipe(path).train.schedule == "efficientdet_cosine"
    assert warnings == []  # nearly every training folder of before has it
    recipe = config.make_recipe([str(path), "train.seed=1"])
    assert recipe.train.schedule == "efficientdet_cosine"
    assert warnings == [
        "train.schedule=cosine is an old name of efficientdet_cosine; write that, or half_cosine, "
        "whose rate falls to the end in runs of any length"
    ]
    assert config.make_recipe().train.schedule == "half_cosine"
