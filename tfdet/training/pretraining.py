"""Pre-training of a CADDet's supernet on images with one label each, and what it leaves.

The folder holds

    pretrain.yaml         the whole recipe, with the classes of the data
    command.txt           what was typed
    data.json             how many images of which names, so that a change is noticed
    last.weights.h5       averaged weights of the newest measurement
    logs/                 one row per epoch: history.csv, history.jsonl
    state/                the newest states from which a killed run resumes

`tfdet-train --pretrained=FOLDER` takes the grid from it.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.data import classification, folders, loader, order
from tfdet.data.dataset import DetectionDataset
from tfdet.errors import UserError
from tfdet.ops.as_written import as_written
from tfdet.printable import counted
from tfdet.training import callbacks, distribution, fingerprint, fitting, trained
from tfdet.training.classifier import make_classifier
from tfdet.training.fitting import Fitting
from tfdet.training.pretrain_recipe import PretrainRecipe
from tfdet.training.run_folder import RunFolder


def pretrain(
    recipe: PretrainRecipe, model_dir: str | pathlib.Path, command: str = ""
) -> list[dict[str, float]]:
    """Trains in `model_dir`; started again after a kill, it resumes there.

    Args:
        recipe: must equal the one that `model_dir` was begun with.
        model_dir: made if need be; what is in it stands at the top of this file.
        command: what the user typed, kept in the folder.

    Returns:
        One row of measurements per epoch.
    """
    settings = recipe.train
    strategy = distribution.make_strategy(settings.strategy)
    distribution.check_batch_size(strategy, settings.batch_size)
    fitting.prepare(settings)
    train_data, val_data, recipe = _open(recipe)
    known = fingerprint.of_all(train=train_data, val=val_data)
    folder = RunFolder(model_dir, trained.PRETRAINING_FILE, PretrainRecipe, data=known)
    changes = folder.check(recipe)
    steps = len(train_data) // settings.batch_size
    with fitting.precision(settings.mixed_precision), distribution.scope(strategy):
        model = make_classifier(recipe)
        fitting.compile_model(model, settings, steps, model.name)
        averages = fitting.make_averages(model, settings)
        run = Fitting(model, settings, steps, folder, averages)
    with folder.claimed(recipe, command):
        run.resume()
        for change in changes:
            print(change, flush=True)
        print(_plan(run, recipe, strategy, train_data), flush=True)
        _fit(run, recipe, strategy, train_data, val_data)
    return run.progress.history


def accuracy(model: Any, dataset: DetectionDataset, batch_size: int) -> dict[str, float]:
    """ "val_accuracy" and "val_top5_accuracy" of a classifier, on the middles of the images."""
    run = tf.function(
        as_written(lambda images: model(images, training=False)), reduce_retracing=True
    )
    size = model.input_size
    ranks = []
    for images, labels in classification.eval_batches(dataset, size, batch_size):
        logits = run(images).numpy()
        own = np.take_along_axis(logits, labels.numpy()[:, None], axis=1)
        ranks.append((logits > own).sum(axis=1))
    if not ranks:
        raise UserError(f"{dataset.name} has no readable image")
    rank = np.concatenate(ranks)
    return {
        "val_accuracy": float((rank == 0).mean()),
        "val_top5_accuracy": float((rank < 5).mean()),
    }


def _open(
    recipe: PretrainRecipe,
) -> tuple[DetectionDataset, DetectionDataset | None, PretrainRecipe]:
    """Both data sets, and the recipe with their classes."""
    if not recipe.data.train:
        raise UserError("no training data: give --data or data.train in the recipe")
    train_data = folders.open_folders(recipe.data.train)
    loader.check_usable(train_data)
    names = list(train_data.class_names)
    if len(names) < 2:
        raise UserError(
            f"{train_data.name} has one class only, {names[0]!r}, and so nothing to tell apart; "
            "give the folder that holds a folder of images for each class"
        )
    val_data = None
    if recipe.data.val:
        val_data = folders.open_folders(recipe.data.val, train_data.class_names)
    if len(train_data) < recipe.train.batch_size:
        raise UserError(
            f"{train_data.name} has {counted(len(train_data), 'image')}, fewer than one batch of "
            f"{recipe.train.batch_size}; lower train.batch_size"
        )
    classes = {"num_classes": len(names), "class_names": names, "class_ids": []}
    return train_data, val_data, dataclasses.replace(recipe, model={**recipe.model, **classes})


def _plan(
    run: Fitting,
    recipe: PretrainRecipe,
    strategy: tf.distribute.Strategy | None,
    data: DetectionDataset,
) -> str:
    settings, step = run.settings, run.progress.step
    measured = f"accuracy on {recipe.data.val}" if recipe.data.val else "nothing"
    begins = f", from step {step} of {run.total_steps}" if step else ""
    return (
        f"training the grid of {recipe.model['name']} on {counted(len(data), 'image')} of "
        f"{counted(recipe.model['num_classes'], 'class')}: "
        f"{counted(settings.num_epochs, 'epoch')} of {counted(run.steps_per_epoch, 'step')} of "
        f"{settings.batch_size}{begins}; measuring {measured}; results go to {run.folder.path}\n"
        f"{fitting.where(strategy)}"
    )


def _fit(
    run: Fitting,
    recipe: PretrainRecipe,
    strategy: tf.distribute.Strategy | None,
    train_data: DetectionDataset,
    val_data: DetectionDataset | None,
) -> None:
    train, size = run.settings, recipe.data.image_size

    def of_worker(index: int, count: int) -> tf.data.Dataset:
        return classification.train_batches(
            train_data, size, train.batch_size, train.seed, run.progress.step, (index, count)
        )

    def file_names(step: int) -> list[str]:
        batch = order.batch_indices(len(train_data), train.batch_size, train.seed, step)
        return [str(train_data.files[i]) for i in batch]

    measure = None
    if val_data is not None:
        data = val_data

        def measure(epoch: int) -> dict[str, float]:
            return accuracy(run.model, data, recipe.eval.batch_size)

    measurement = callbacks.Measurement(
        run.model,
        run.progress,
        run.averages,
        run.folder.path,
        measure,
        recipe.eval.interval,
        train.num_epochs,
        signals=run.signals,
    )
    run.fit(
        lambda: distribution.share_batches(strategy, train.batch_size, of_worker),
        file_names,
        lambda shown: measurement,
    )
