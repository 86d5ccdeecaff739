import types

import pytest

from tfdet.cli import app, flags
from tfdet.errors import UserError


def options(**given):
    empty = {"model_dir": None, "model_name": None, "weights": None, "hparams": []}
    return types.SimpleNamespace(**{**empty, "given": set(given), **given})


def test_exactly_one_of_some_flags_is_wanted():
    assert flags.check_one_of(options(model_name="x"), "model_dir", "model_name") == "model_name"
    with pytest.raises(app.UsageError, match="give --model_dir or --model_name"):
        flags.check_one_of(options(), "model_dir", "model_name")
    with pytest.raises(app.UsageError, match="give only one of"):
        flags.check_one_of(options(model_dir="a", model_name="b"), "model_dir", "model_name")


def test_numbers_must_be_above_zero_where_they_are_given():
    flags.check_positive(options(batch_size=1, num_epochs=None), "batch_size", "num_epochs")
    with pytest.raises(app.UsageError, match="--num_epochs must be above 0, got 0"):
        flags.check_positive(options(num_epochs=0), "num_epochs")


def test_a_new_folder_is_not_there_or_empty(tmp_path):
    flags.check_new_folder(options(output=str(tmp_path / "a" / "b")), "output")
    flags.check_new_folder(options(output=str(tmp_path)), "output")
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match="is there already; give a new folder"):
            flags.check_new_folder(options(output=str(folder)), "output")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"model_dir": "a", "weights": "b.weights.h5"}, "--weights belongs to --model_name"),
        ({"model_name": "a", "hparams": ["train.seed=3"]}, "only keys of the model"),
        ({"saved_model": "a", "hparams": ["model.head=packed"]}, "cannot change what"),
    ],
)
def test_contradictions_are_refused_before_the_work(given, sentence):
    with pytest.raises(app.UsageError, match=sentence):
        flags.check_model(options(**{"saved_model": None, **given}), "saved_model")


def test_hparams_change_the_model(capsys):
    wanted = options(model_name="efficientdet-test", hparams=["model.num_classes=3"])
    assert flags.load_model(wanted).num_classes == 3
    assert "random weights, never trained" in capsys.readouterr().out
