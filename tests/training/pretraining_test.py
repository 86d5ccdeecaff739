"""Pre-training of the supernet on tiny images, and a detector that starts from it."""

import json

import numpy as np
import pytest
from PIL import Image

from tfdet import config, registry
from tfdet.cli import pretrain as command
from tfdet.data import classification, folders
from tfdet.errors import UserError
from tfdet.training import pretrained, pretraining
from tfdet.training.classifier import load_classifier
from tfdet.training.pretrain_recipe import PretrainRecipe

CLASSES = {"blue": (20, 40, 230), "green": (30, 200, 60), "red": (220, 40, 30)}
GRID = {"layers": 2, "channels": [8, 10]}
CHANGES = {
    "model.name": "caddet-test",
    "model.supernet": GRID,
    "data.image_size": [32, 32],
    "train.batch_size": 6,
    "train.num_epochs": 24,
    "train.optimizer": "adam",
    "train.learning_rate": 0.004,
    "train.learning_rate_batch": 0,
    "train.warmup_epochs": 0,
    "train.ema_decay": 0.5,
    "eval.interval": 12,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three folders of eight noisy pictures of one colour each."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name, colour in CLASSES.items():
        (root / name).mkdir()
        for i in range(8):
            noise = rng.normal(0, 20, (40, 50 + 5 * i, 3))
            pixels = np.clip(noise + colour, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    (root / "red" / "notes.txt").write_text("no image")
    return root


def recipe(images, **changes):
    data = {"data.train": str(images), "data.val": str(images)}
    every = {**CHANGES, **data, **changes}
    return config.make_recipe(changes=every, kind=PretrainRecipe)


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, pretraining.pretrain(recipe(images), folder)


def test_folders_are_classes(images):
    dataset = folders.open_folders(str(images))
    assert dataset.class_names == ("blue", "green", "red")
    assert np.bincount(dataset.labels).tolist() == [8, 8, 8]
    some = folders.open_folders(str(images), ("red", "orange", "blue", "green"))
    assert np.bincount(some.labels).tolist() == [8, 0, 8, 8]
    with pytest.raises(UserError, match="folder 'red', which is no class of the other data"):
        folders.open_folders(str(images), ("blue", "green"))
    with pytest.raises(UserError, match="no folder with images"):
        folders.open_folders(str(images / "red"))


def test_batches_have_the_colour_of_their_label_and_go_on_anywhere(images):
    dataset = folders.open_folders(str(images))
    colours = np.array([CLASSES[name] for name in dataset.class_names])
    batches = classification.train_batches(dataset, (24, 16), 6, seed=3)
    seen = [(x.numpy(), y.numpy()) for x, y in batches.take(3)]
    for x, y in [*seen, *classification.eval_batches(dataset, (24, 16), 10)]:
        assert x.shape[1:] == (24, 16, 3)
        np.testing.assert_allclose(np.mean(x, axis=(1, 2)), colours[y], atol=12)
    later = classification.train_batches(dataset, (24, 16), 6, seed=3, start_step=2)
    for ours, theirs in zip(next(iter(later)), seen[2], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert sum(len(y) for _, y in classification.eval_batches(dataset, (24, 16), 10)) == 24


def test_it_learns_and_keeps_what_it_learned(images, run):
    folder, history = run
    assert history[-1]["val_accuracy"] > 0.7  # by chance a third
    assert history[-1]["val_top5_accuracy"] == 1
    assert "val_accuracy" not in history[10] and "val_accuracy" in history[11]
    assert history[-1]["loss"] < history[0]["loss"]
    rows = [json.loads(x) for x in (folder / "logs" / "history.jsonl").read_text().splitlines()]
    assert rows == history
    again = load_classifier(folder)
    dataset = folders.open_folders(str(images))
    found = pretraining.accuracy(again, dataset, 7)
    assert found["val_accuracy"] == pytest.approx(history[-1]["val_accuracy"])


def test_a_finished_run_is_not_run_again_and_another_recipe_is_refused(images, run):
    folder, history = run
    assert pretraining.pretrain(recipe(images), folder) == history
    with pytest.raises(UserError, match="begun with another recipe"):
        pretraining.pretrain(recipe(images, **{"train.seed": 1}), folder)


def test_a_detector_takes_the_grid_and_nothing_else(run):
    folder, _ = run
    model = registry.create("caddet-test", supernet=GRID)
    heads = [np.asarray(v).copy() for v in (*model.neck.weights, *model.head.weights)]
    routers = [np.asarray(v).copy() for router in model.backbone.routers for v in router.weights]
    sentence = pretrained.start_from(model, str(folder))
    classifier = load_classifier(folder)
    for ours, theirs in zip(model.backbone.nodes, classifier.backbone.nodes, strict=True):
        for mine, other in zip(ours.weights, theirs.weights, strict=True):
            np.testing.assert_array_equal(mine, other)
    for stem, other in zip(model.backbone.stem, classifier.backbone.stem, strict=True):
        np.testing.assert_array_equal(stem.pointwise.kernel, other.pointwise.kernel)
    after = [np.asarray(v).copy() for v in (*model.neck.weights, *model.head.weights)]
    for before, now in zip(heads, after, strict=True):
        np.testing.assert_array_equal(before, now)
    kept = [np.asarray(v).copy() for router in model.backbone.routers for v in router.weights]
    for before, now in zip(routers, kept, strict=True):
        np.testing.assert_array_equal(before, now)
    assert f"starting from {len(classifier.backbone.weights)} weights of {folder}" in sentence


def test_the_command_tells_what_is_missing(tmp_path, capsys):
    argv = [f"--model_dir={tmp_path / 'run'}", f"--data={tmp_path / 'nowhere'}"]
    assert command.COMMAND.run(command.main, argv) == 1
    assert "there is no directory" in capsys.readouterr().err
    assert command.COMMAND.run(command.main, argv[:1]) == 1
    assert "no training data: give --data" in capsys.readouterr().err
