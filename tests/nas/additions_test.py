import pytest

from tests.nas import teacher_cases
from tfdet import additions, config, records
from tfdet.errors import UserError
from tfdet.nas import distill


def test_nothing_is_wrapped_without_being_asked_for():
    student = teacher_cases.detector(0)
    assert additions.wrapped(student, config.TrainConfig().additions, seed=0) is student


def test_recipes_wrap_the_student_once_in_each_addition(monkeypatch):
    monkeypatch.setattr(distill, "load_teacher", lambda source: teacher_cases.super_network(1))
    keys = {"gamma_l1": 1e-5, "elastic": teacher_cases.CONFIG, "distill": {"teacher": "runs/1"}}
    settings = records.from_dict(config.TrainConfig, keys)
    model = teacher_cases.super_network()
    wrapped = additions.wrapped(model, settings.additions, settings.seed)
    assert type(wrapped).__name__ == "Elastic" and wrapped.detector is model
    assert wrapped.image_size == teacher_cases.SIZE
    assert wrapped.loss_names == (
        *model.term_names,
        "distill_feature_loss",
        "distill_class_loss",
        "distill_box_loss",
        "gamma_loss",
        "l2_loss",
    )
    assert additions.describe(settings.additions) == " with the teacher runs/1"


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ("train.gamma_l1=-1", r"train\.gamma_l1 must be at least 0, got -1"),
        ("train.gamma_l1=.nan", r"train\.gamma_l1 must be at least 0, got nan"),
        ("train.gama_l1=1", r"unknown key 'train\.gama_l1'; did you mean 'gamma_l1'"),
        ("train.distill.techer=x", r"unknown key 'train\.distill\.techer'.*'teacher'"),
        ("train.elastic.full_width=0", r"elastic\.full_width must be above 0"),
        ("train.elastic=3", r"train\.elastic must be a mapping"),
    ],
)
def test_mistakes_in_a_recipe_are_named(hparams, message):
    with pytest.raises(UserError, match=message):
        config.make_recipe([hparams])


def test_recipes_hold_the_keys_among_those_of_training(tmp_path):
    recipe = config.make_recipe(["train.gamma_l1=1e-5,train.elastic.sizes=[[64, 64]]"])
    config.save_recipe(recipe, tmp_path / "recipe.yaml")
    assert "\n  gamma_l1: 1.0e-05\n  elastic:\n    depths: []\n" in (
        (tmp_path / "recipe.yaml").read_text()
    )
    again = config.load_recipe(tmp_path / "recipe.yaml")
    assert again == recipe
    (different,) = config.differences(config.make_recipe(["train.gamma_l1=1"]), config.Recipe())
    assert different == "train.gamma_l1: 1.0 here, 0.0 there"
