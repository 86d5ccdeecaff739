import pytest

from tfdet import config, records
from tfdet.errors import UserError


def test_flags_win_over_hparams_and_later_hparams_over_earlier(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: {name: efficientdet-test}\ntrain: {batch_size: 8, momentum: 0.5}\n")
    recipe = config.make_recipe(
        [str(path), "train.batch_size=4,train.seed=3"], {"train.num_epochs": 7}
    )
    assert recipe.model == {"name": "efficientdet-test"}
    train = recipe.train
    assert (train.batch_size, train.momentum, train.seed, train.num_epochs) == (4, 0.5, 3, 7)


def test_a_recipe_survives_yaml(tmp_path):
    recipe = config.make_recipe(
        ["model.name=efficientdet-test,model.nms.method=hard,train.decay_epochs=[3, 5]"],
        {
            **{"data.train": "shapes:train", "data.augment.flip": 0.0},
            **{"train.frozen": "backbone|neck", "train.rates": [["head", 2], ["bias$", 0.5]]},
        },
    )
    config.save_recipe(recipe, tmp_path / "recipe.yaml")
    assert config.load_recipe(tmp_path / "recipe.yaml") == recipe


def test_assignments_keep_commas_within_brackets_and_quotes():
    text = "model.aspect_ratios=[1.0, 2.0],data.val='a,b',train.decay_epochs=[1,2],train.frozen="
    assert config.parse_assignments(text) == {
        "model.aspect_ratios": [1.0, 2.0],
        "data.val": "a,b",
        "train.decay_epochs": [1, 2],
        "train.frozen": None,
    }


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ("train.weight_decay=0.1", "weight_decay=0.1 does nothing with train.optimizer='sgd'"),
        (
            "train.optimizer=adamw,train.bias_warmup_init=0",
            "with train.optimizer='adamw'; leave it out, or choose optimizer 'nesterov'",
        ),
        (
            "train.optimizer=nesterov,train.momentum_warmup_init=1",
            "train.momentum_warmup_init must be in [0, 1), got 1",
        ),
        ("train.accumulate_batch=-1", "train.accumulate_batch must be at least 0, got -1"),
        ("train.learning_rte=1", "unknown key 'train.learning_rte'; did you mean 'learning_rate'"),
        ("trian.seed=1", "unknown key 'trian'; did you mean 'train'"),
        ("model.name=efficientdet-d9", "unknown model 'efficientdet-d9'; did you mean"),
        ("model.fpn_witdh=3", "unknown key 'model.fpn_witdh'; did you mean 'fpn_width'"),
        ("train.batch_size=0", "train.batch_size must be at least 1, got 0"),
        ("train.batch_size=many", "train.batch_size must be a whole number, got 'many'"),
        ("train.batch_size=2.5", "train.batch_size must be a whole number, got 2.5"),
        (
            "train.optimizer=lion",
            "train.optimizer must be one of 'sgd', 'nesterov', 'adam', 'adamw'; got 'lion'",
        ),
        ("train.ema_decay=1", "train.ema_decay must be in [0, 1), got 1"),
        ("train.num_epochs=2,train.warmup_epochs=2", "train.warmup_epochs must be below"),
        ("train.decay_epochs=[5, 3]", "train.decay_epochs must rise"),
        ("train.frozen='(a'", "train.frozen is not a regular expression"),
        (
            "train.optimizer=adamw,train.decayed='*'",
            "train.decayed is not a regular expression: nothing to repeat",
        ),
        ("train.decayed=bias", "decayed=bias does nothing with train.optimizer='sgd'"),
        (
            "train.rates=[[neck, 1], ['(a', 1]]",
            "train.rates[1][0] is not a regular expression: missing )",
        ),
        (
            "train.rates=[[neck, -1]]",
            "the factor of 'neck' in train.rates must be at least 0, got -1.0",
        ),
        ("train.rates=[[neck, .inf]]", "the factor of 'neck' in train.rates must be at least 0"),
        ("train.rates=[[neck, .nan]]", "the factor of 'neck' in train.rates must be at least 0"),
        ("train.rates=[neck, 2]", "train.rates[0] must be a list of 2 values, got 'neck'"),
        ("train.rates=[[neck]]", "train.rates[0] must have 2 values, got 1"),
        (
            "train.clip=norm",
            "train.clip must be one of 'each_and_global', 'global'; got 'norm'",
        ),
        ("data.augment.flip=2", "augment.flip must be a probability"),
        (
            "train.seed",
            "hparams must be the name of a recipe (`tfdet-train --list_recipes`), a .yaml",
        ),
        ("nowhere.yaml", "recipe nowhere.yaml cannot be read: No such file"),
    ],
)
def test_mistakes_are_named(hparams, message):
    with pytest.raises(UserError) as caught:
        config.make_recipe([hparams])
    assert message in str(caught.value)


def test_broken_yaml_names_the_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("train:\n  seed: [1\n")
    with pytest.raises(UserError, match=r"recipe.yaml is not YAML in line 3"):
        config.load_recipe(path)


def test_differences_name_key_and_both_values():
    ours = config.make_recipe(["train.seed=1,model.name=efficientdet-test"])
    theirs = config.make_recipe(["model.fpn_width=32,model.name=efficientdet-test"])
    assert config.differences(ours, ours) == []
    assert config.differences(ours, theirs) == [
        "train.seed: 1 here, 0 there",
        "model.fpn_width: 'unset' here, 32 there",
    ]


def test_defaults_are_the_published_ones_with_a_wave_that_falls_to_the_end():
    train = records.to_dict(config.TrainConfig())
    published = {
        "batch_size": 64,
        "num_epochs": 300,
        "optimizer": "sgd",
        "momentum": 0.9,
        "learning_rate": 0.08,
        "warmup_init": 0.008,
        "warmup_epochs": 1.0,
        "schedule": "half_cosine",
        "decay_epochs": [200.0, 250.0],
        "polynomial_power": 0.9,
        "clip_gradients_norm": 10.0,
        "ema_decay": 0.9998,
    }
    assert {key: train[key] for key in published} == published
