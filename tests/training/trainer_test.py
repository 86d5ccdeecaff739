"""Training by the recipe: killed and resumed runs, what is kept, and what is refused."""

import contextlib
import csv
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import h5py
import keras
import numpy as np
import pytest
import yaml

from tfdet import config, registry
from tfdet.cli import train
from tfdet.data import order, sources
from tfdet.errors import UserError
from tfdet.training import averaging, callbacks, checkpoint, pretrained, trained, trainer
from tfdet.weights import importing

# What a process that is killed has begun goes on in this one.
pytestmark = pytest.mark.usefixtures("optimized_graphs")

STEPS_PER_EPOCH = 10
HPARAMS = (
    "model.name=efficientdet-test,model.max_level=5,model.drop_connect=0.2,train.batch_size=2,train.num_epochs=3,"
    "train.warmup_epochs=0.5,train.save_seconds=0,eval.interval=2,eval.batch_size=4,eval.pictures=2"
)


def argv(model_dir, *flags):
    return [
        *(f"--hparams={HPARAMS}", f"--data=shapes:train:{2 * STEPS_PER_EPOCH}"),
        *("--val_data=shapes:val:4", f"--model_dir={model_dir}", *flags),
    ]


def run_to_the_end(model_dir, *flags):
    """In this process, and without the state of each step: both take as long as the training."""
    words = argv(model_dir, "--hparams=train.save_seconds=300", *flags)
    assert train.COMMAND.run(train.main, words) == 0


@contextlib.contextmanager
def recorded_updates():
    """The steps of the updates of moving averages within it."""
    seen, update = [], averaging.MovingAverages.update

    def record(self, step):
        seen.append(step)
        update(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(averaging.MovingAverages, "update", record)
        yield seen


def newest_step(model_dir):
    files = sorted((model_dir / "state").glob("[0-9]*.npz"))
    return int(files[-1].stem) if files else 0


def kill_after(model_dir, steps, moment, rng, *flags):
    """Runs until `steps` more have been saved, then kills at once, later, or within a write."""
    wanted = newest_step(model_dir) + steps
    command = [sys.executable, "-m", "tfdet.cli.train", *argv(model_dir, *flags)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while newest_step(model_dir) < wanted and process.poll() is None:
        time.sleep(0.002)
    if moment == "later":
        time.sleep(rng.uniform(0, 0.1))
    while moment == "write" and process.poll() is None:
        if any(model_dir.rglob(".tmp-*")):
            break
    assert process.poll() is None, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def weights(path):
    values = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: values.update({name: item[()]} if hasattr(item, "shape") else {})
        )
    return values


def history(model_dir):
    with open(model_dir / "logs" / "history.csv") as file:
        rows = list(csv.DictReader(file))
    timings = {"seconds", "images_per_second"}
    return [{k: v for k, v in row.items() if k not in timings} for row in rows]


def assert_equal_runs(ours: pathlib.Path, theirs: pathlib.Path):
    (arrays, facts), (arrays_there, facts_there) = (
        checkpoint.StateFolder(folder / "state").read() for folder in (ours, theirs)
    )
    assert facts["step"] == facts_there["step"] == 3 * STEPS_PER_EPOCH
    assert facts["best_score"] == facts_there["best_score"]
    assert sorted(arrays) == sorted(arrays_there)
    for key, value in arrays.items():
        np.testing.assert_array_equal(value, arrays_there[key], err_msg=key)
    for name in ("best.weights.h5", "last.weights.h5"):
        values, values_there = weights(ours / name), weights(theirs / name)
        assert values.keys() == values_there.keys()
        for key, value in values.items():
            np.testing.assert_array_equal(value, values_there[key], err_msg=f"{name} {key}")
    assert history(ours) == history(theirs)
    assert [row["epoch"] for row in history(ours)] == ["1", "2", "3"]


@pytest.fixture(scope="module")
def undisturbed_run(tmp_path_factory):
    """Its folder, and the steps after which the averages moved."""
    model_dir = tmp_path_factory.mktemp("undisturbed")
    with recorded_updates() as steps:
        run_to_the_end(model_dir)
    return model_dir, steps


@pytest.fixture(scope="module")
def undisturbed(undisturbed_run):
    return undisturbed_run[0]


@pytest.mark.parametrize(
    "kills", [1, pytest.param(10, marks=pytest.mark.slow)], ids=["one_kill", "ten_kills"]
)
def test_a_killed_run_ends_with_the_same_bits(tmp_path, undisturbed, kills):
    rng = np.random.default_rng(kills)
    # Alone within the second epoch; the first of many right between two epochs.
    kill_after(tmp_path, STEPS_PER_EPOCH + (5 if kills == 1 else 0), "now", rng)
    for steps in rng.integers(1, 2 * STEPS_PER_EPOCH // kills, size=kills - 1):
        kill_after(tmp_path, steps, rng.choice(["now", "later", "write"]), rng)
    run_to_the_end(tmp_path)
    assert_equal_runs(tmp_path, undisturbed)


@pytest.mark.slow
def test_equal_runs_end_with_the_same_bits(tmp_path):
    # Large enough for TensorFlow's threads to meet in any order; see Detector._tensorflow_step.
    for name in ("one", "two"):
        subprocess.run(
            [
                *(sys.executable, "-m", "tfdet.cli.train", "--data=shapes:train:256"),
                "--hparams=efficientdet/nano_shapes",
                "--val_data=shapes:val:8",
                *("--num_epochs=2", f"--model_dir={tmp_path / name}"),
            ],
            check=True,
        )
    one, two = (weights(tmp_path / name / "last.weights.h5") for name in ("one", "two"))
    for name, value in one.items():
        np.testing.assert_array_equal(two[name], value, err_msg=name)


YOLO_RULES = (
    "train.optimizer=nesterov,train.accumulate_batch=8,train.weight_decay=0.0005,"
    "train.learning_rate=0.01,train.learning_rate_batch=0,train.warmup_init=0,"
    "train.bias_warmup_init=0.1,train.momentum_warmup_init=0.8,train.schedule=epoch_cosine,"
    "train.ema_decay=0.9999,train.ema_ramp=exponential"
)


@pytest.mark.slow
def test_a_run_killed_between_two_updates_ends_with_the_same_bits(tmp_path):
    rules = f"--hparams={YOLO_RULES}"
    run_to_the_end(tmp_path / "undisturbed", rules)
    kill_after(tmp_path / "killed", 10, "now", np.random.default_rng(0), rules)
    run_to_the_end(tmp_path / "killed", rules)
    assert_equal_runs(tmp_path / "killed", tmp_path / "undisturbed")


def small_recipe(*hparams, **changes):
    return config.make_recipe(
        [
            "model.name=efficientdet-test,model.max_level=5,train.batch_size=2,train.num_epochs=1,"
            "train.warmup_epochs=0,eval.batch_size=2,data.train='shapes:train:8'",
            *hparams,
        ],
        changes,
    )


def test_a_loss_that_explodes_names_step_part_and_files_and_spoils_nothing(tmp_path):
    recipe = small_recipe(
        "train.learning_rate=1e18,train.clip_gradients_norm=0,train.save_seconds=0,train.num_epochs=3"
    )
    with pytest.raises(callbacks.NonFiniteLoss) as caught:
        trainer.train(recipe, tmp_path)
    facts = json.loads((tmp_path / "non_finite.json").read_text())
    assert f"in step {facts['step']}" in str(caught.value)
    assert set(facts["parts"]) & {"class_loss", "box_loss", "l2_loss", "gradient_norm"}
    indices = order.batch_indices(8, 2, recipe.train.seed, facts["step"])
    ids = sources.open_dataset("shapes:train:8").image_ids[indices]
    assert [name.split()[1] for name in facts["files"]] == [str(i) for i in ids]
    arrays, saved = checkpoint.StateFolder(tmp_path / "state").read()
    assert saved["step"] == facts["step"]
    assert all(np.isfinite(value).all() for value in arrays.values())


@pytest.mark.parametrize(("best", "is_zero"), [(0.0, True), (0.0004, True), (0.012, False)])
def test_a_run_whose_ap_is_0_ends_with_where_to_look(tmp_path, best, is_zero):
    recipe = small_recipe()
    folder, progress = types.SimpleNamespace(path=tmp_path), types.SimpleNamespace(best_score=best)
    run = types.SimpleNamespace(folder=folder, progress=progress, settings=recipe.train)
    printed = trainer._ending(run, types.SimpleNamespace(recipe=recipe))
    assert f"best AP {100 * best:.1f}," in printed
    assert (f"why it is 0: look at {tmp_path / 'pictures'}" in printed) == is_zero


FINISHED = small_recipe("train.ema_decay=0.5,train.accumulate_batch=8,data.val='shapes:val:4'")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """Its folder, what it said, and the steps after which the averages moved."""
    model_dir, said = tmp_path_factory.mktemp("finished"), io.StringIO()
    with contextlib.redirect_stdout(said), recorded_updates() as steps:
        trainer.train(FINISHED, model_dir, measure=False)
    return model_dir, said.getvalue(), steps


@pytest.fixture(scope="module")
def finished(finished_run):
    return finished_run[0]


def test_a_training_begins_with_what_the_levels_learn(finished_run):
    _, said, _ = finished_run
    assert re.match(r"positives by level \(8 images, \d+ objects\):  P3 ", said)
    assert "running on " in said


def test_averages_move_with_the_updates(undisturbed_run, finished_run):
    assert undisturbed_run[1] == list(range(3 * STEPS_PER_EPOCH))
    assert finished_run[2] == [0]  # four steps make one


def test_another_recipe_in_the_same_folder_is_refused_by_key(finished):
    with pytest.raises(UserError, match=r"train.ema_decay: 0.9 here, 0.5 there"):
        trainer.train(
            small_recipe("train.ema_decay=0.9,train.accumulate_batch=8,data.val='shapes:val:4'"),
            finished,
        )


def test_a_finished_run_is_not_trained_again(finished):
    before = weights(finished / "last.weights.h5")
    rows = trainer.train(FINISHED, finished, measure=False)
    assert [row["epoch"] for row in rows] == [1]
    after = weights(finished / "last.weights.h5")
    for key, value in before.items():
        np.testing.assert_array_equal(value, after[key])


def test_a_run_that_was_begun_with_old_keys_is_resumed(tmp_path, finished, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    file = folder / trained.RECIPE_FILE
    data = yaml.safe_load(file.read_text())
    for key in ("rates", "decayed", "clip"):
        del data["train"][key]
    data["train"] |= {"bias_factor": 1.0, "router_factor": 1.0}
    file.write_text(yaml.safe_dump(data))
    assert len(trainer.train(FINISHED, folder, measure=False)) == 1
    assert "old key" not in capsys.readouterr().err
    assert file.read_text() == (finished / trained.RECIPE_FILE).read_text()
    data["train"]["bias_factor"] = 2.0
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(UserError, match=r"train.rates: \[\] here, .*2.0\]\] there"):
        trainer.train(FINISHED, folder, measure=False)


def test_training_alone_measures_nothing(finished):
    assert (finished / "last.weights.h5").is_file()
    assert not (finished / "best.weights.h5").exists()
    assert "AP" not in history(finished)[0]


def test_the_kept_weights_are_the_averaged_ones(finished):
    model = trained.load_trained(finished, "last")
    kept = [keras.ops.convert_to_numpy(v) for v in model.weights]
    arrays, _ = checkpoint.StateFolder(finished / "state").read()
    for i, value in enumerate(kept):
        np.testing.assert_array_equal(value, arrays[f"averages/{i}"])
    assert any(not np.array_equal(arrays[f"model/{i}"], kept[i]) for i in range(len(kept)))


def test_classes_of_the_data_travel_with_the_weights(finished):
    model = trained.load_trained(finished)
    assert model.class_names == ("circle", "square", "triangle", "star", "cross")
    assert model.class_ids == (1, 2, 3, 4, 5)


def test_weights_of_other_classes_start_a_model_but_for_its_predictor(finished):
    model = registry.create("efficientdet-test", max_level=5, num_classes=2)
    sentence = pretrained.start_from(model, str(finished))
    arrays = weights(finished / "last.weights.h5")
    stem = next(v for v in model.weights if v.path.endswith("stem_conv/kernel"))
    assert any(np.array_equal(stem, value) for value in arrays.values())
    assert "are new: class_net/" in sentence
    new = int(re.search(r"; (\d+) are new", sentence).group(1))
    predictor = [v for v in model.weights if "class-predict" in v.path]
    assert 0 < new <= len(predictor)


def test_frozen_variables_stay_and_others_move():
    model = registry.create("efficientdet-test", max_level=5)
    sentence = trainer.freeze(model, "backbone|neck")
    left = {importing.path_in(model, v).partition("/")[0] for v in model.trainable_variables}
    assert left == {"class_net", "box_net"}
    assert "are frozen" in sentence
    terms = float(model._l2_loss())
    for variable in model.weights:
        if importing.path_in(model, variable).startswith("backbone"):
            variable.assign(variable * 2)
    assert float(model._l2_loss()) == terms


@pytest.mark.parametrize(
    ("expression", "message"), [("bakbone", "matches no variable"), (".*", "matches all variables")]
)
def test_freezing_nothing_or_everything_is_refused(expression, message):
    model = registry.create("efficientdet-test", max_level=5)
    with pytest.raises(UserError, match=message):
        trainer.freeze(model, expression)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ("data.train=''", "no training data"),
        ("train.batch_size=9", "has 8 images, fewer than one batch of 9"),
        ("model.num_classes=4", "model.num_classes is 4, but .* has 5 classes"),
        (
            "train.rates=[[neck, 2], ['^effi', 2]]",
            r"train.rates: '\^effi' matches no .* begin with backbone, box_net, class_net, neck",
        ),
    ],
)
def test_mistakes_end_before_anything_is_written(tmp_path, hparams, message):
    with pytest.raises(UserError, match=message):
        trainer.train(small_recipe(hparams), tmp_path / "run")
    assert not (tmp_path / "run").exists()
