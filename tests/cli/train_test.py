import csv

import pytest

from tfdet.cli import train
from tfdet.training import trained

HPARAMS = (
    "model.name=efficientdet-test,model.max_level=5,train.batch_size=4,train.num_epochs=3,"
    "train.warmup_epochs=0,eval.batch_size=2,eval.pictures=2"
)


def run(*argv):
    return train.COMMAND.run(train.main, argv)


@pytest.fixture(scope="module")
def trained_dir(tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("cli") / "run"
    argv = (f"--hparams={HPARAMS}", "--hparams=train.seed=5", "--data=shapes:train:8")
    flags = ("--val_data=shapes:val:4", "--batch_size=2", "--num_epochs=1")
    assert run(*argv, *flags, f"--model_dir={model_dir}") == 0
    return model_dir


def test_flags_win_over_hparams(trained_dir):
    recipe = trained.trained_recipe(trained_dir)
    train_config = recipe.train
    assert (train_config.batch_size, train_config.num_epochs, train_config.seed) == (2, 1, 5)
    assert (recipe.data.train, recipe.data.val) == ("shapes:train:8", "shapes:val:4")


def test_the_folder_has_what_is_promised(trained_dir):
    names = {p.relative_to(trained_dir).as_posix() for p in trained_dir.rglob("*") if p.is_file()}
    promised = {
        *("recipe.yaml", "command.txt", "best.weights.h5", "last.weights.h5", "curve.png"),
        *("logs/history.csv", "logs/history.jsonl", "pictures/epoch_0001.jpg"),
    }
    assert promised <= names
    typed = (trained_dir / "command.txt").read_text()
    assert typed.startswith("tfdet-train ") and "--data=shapes:train:8" in typed


def test_the_log_has_every_term_and_score(trained_dir):
    with open(trained_dir / "logs" / "history.csv") as file:
        (row,) = csv.DictReader(file)
    terms = float(row["class_loss"]) + float(row["box_loss"]) + float(row["l2_loss"])
    assert float(row["loss"]) == pytest.approx(terms, rel=1e-5)
    assert int(row["step"]) == 4
    for key in ("learning_rate", "gradient_norm", "images_per_second", "AP50", "AP/circle"):
        assert float(row[key]) >= 0, key


def test_eval_mode_prints_the_table_of_the_best_weights(trained_dir, capsys):
    assert run("--mode=eval", f"--model_dir={trained_dir}") == 0
    out = capsys.readouterr().out
    assert "best.weights.h5 on shapes:val:4" in out
    assert "AP50" in out
