"""Pre-training of a CADDet's supernet on images with one label each, and what it leaves.

The folder holds

    pretrain.yaml         the whole recipe, with the classes of the data
    command.txt           what was typed
    last.weights.h5       averaged weights of the newest measurement
    logs/                 one row per epoch: history.csv, history.jsonl
    state/                the newest states from which a killed run goes on

`tfdet-train --pretrained=FOLDER` takes the grid from it.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdet import config, files, registry
from tfdet.backbones.grid import SupernetConfig
from tfdet.data import classification, folders, loader, order
from tfdet.data.dataset import DetectionDataset
from tfdet.errors import UserError
from tfdet.training import (
    averaging,
    board,
    callbacks,
    checkpoint,
    distribution,
    trained,
    trainer,
)
from tfdet.training import optimizer as optimizers
from tfdet.training import progress as progress_lib
from tfdet.training.classifier import SupernetClassifier

WEIGHTS_FILE = "last.weights.h5"


@dataclasses.dataclass(frozen=True)
class ImagesConfig:
    """What is learned from.

    Attributes:
        train, val: directories that have a folder of images for each class.
        image_size: (height, width) of the crops.
    """

    train: str = ""
    val: str = ""
    image_size: tuple[int, int] = (224, 224)


@dataclasses.dataclass(frozen=True)
class MeasureConfig:
    """When the accuracy is measured.

    Attributes:
        interval: epochs between two measurements; the last epoch is always measured.
        batch_size: images per step.
    """

    interval: int = 1
    batch_size: int = 64


@dataclasses.dataclass(frozen=True)
class PretrainRecipe:
    """Everything that decides a run of pre-training.

    Attributes:
        model: {"name": of a registered CADDet, **changes to its configuration}.
        data: the images.
        train: the schedule.
        eval: the measurements.
    """

    model: dict[str, Any] = dataclasses.field(default_factory=lambda: {"name": "caddet-fcos"})
    data: ImagesConfig = dataclasses.field(default_factory=ImagesConfig)
    train: config.TrainConfig = dataclasses.field(default_factory=config.TrainConfig)
    eval: MeasureConfig = dataclasses.field(default_factory=MeasureConfig)

    def __post_init__(self) -> None:
        if not isinstance(getattr(self.model_config(), "supernet", None), SupernetConfig):
            raise UserError(f"model.name must be that of a CADDet, got {self.model.get('name')!r}")
        for name in ("frozen", "pretrained"):
            if getattr(self.train, name):
                raise UserError(f"train.{name} has no meaning in pre-training; leave it out")
        if self.train.strategy == "multi_worker":
            raise UserError("pre-training knows one machine; train.strategy must be mirrored or ''")

    def model_config(self) -> Any:
        """The CADDet's configuration."""
        changes = {key: value for key, value in self.model.items() if key != "name"}
        return registry.config(self.model.get("name", ""), **changes)


def load_classifier(model_dir: str | pathlib.Path) -> SupernetClassifier:
    """The classifier that `pretrain` left in a folder."""
    path = pathlib.Path(model_dir)
    recipe = config.load_recipe(path / trained.PRETRAINING_FILE, PretrainRecipe)
    model = _build(recipe)
    if not (path / WEIGHTS_FILE).is_file():
        raise UserError(f"{model_dir} has no weights yet; they are written after the first epochs")
    trained.load_weights(model, path / WEIGHTS_FILE)
    return model


def pretrain(
    recipe: PretrainRecipe, model_dir: str | pathlib.Path, command: str = ""
) -> list[dict[str, float]]:
    """Trains in `model_dir`; started again after a kill, it goes on from there.

    Args:
        recipe: must equal the one that `model_dir` was begun with.
        model_dir: made if need be; what is in it stands at the top of this file.
        command: what the user typed, kept in the folder.

    Returns:
        One row of measurements per epoch.
    """
    model_dir = pathlib.Path(model_dir)
    strategy = distribution.make_strategy(recipe.train.strategy)
    distribution.check_batch_size(strategy, recipe.train.batch_size)
    if recipe.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(recipe.train.seed)
    train_data, val_data, recipe = _open(recipe)
    steps = len(train_data) // recipe.train.batch_size
    _check_folder(recipe, model_dir)
    with trainer.precision(recipe.train.mixed_precision), distribution.scope(strategy):
        model = _build(recipe)
        optimizer = optimizers.make_optimizer(recipe.train, steps, model.name)
        model.compile(optimizer=optimizer, jit_compile=False)
        optimizer.build(model.trainable_variables)
        decay, ramp = recipe.train.ema_decay, recipe.train.ema_ramp
        averages = averaging.MovingAverages(model, decay, ramp) if decay else None
    model_dir.mkdir(parents=True, exist_ok=True)
    config.save_recipe(recipe, model_dir / trained.PRETRAINING_FILE)
    files.write_text(model_dir / "command.txt", command + "\n")
    progress = checkpoint.Progress()
    state = checkpoint.TrainingState(model, averages, progress)
    with files.holding(model_dir):
        saved = checkpoint.StateFolder(model_dir / "state").read()
        if saved:
            state.restore(*saved)
        print(
            f"{len(train_data)} images of {recipe.model['num_classes']} classes, step "
            f"{progress.step} of {steps * recipe.train.num_epochs}",
            flush=True,
        )
        chosen = _callbacks(recipe, model_dir, state, train_data, val_data)
        batches = _batches(recipe, strategy, train_data, progress)
        trainer.fit(model, batches, progress, steps, recipe.train.num_epochs, chosen)
    return progress.history


def accuracy(model: Any, dataset: DetectionDataset, batch_size: int) -> dict[str, float]:
    """ "val_accuracy" and "val_top5_accuracy" of a classifier, on the middles of the images."""
    run = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
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
    val_data = None
    if recipe.data.val:
        val_data = folders.open_folders(recipe.data.val, train_data.class_names)
    if len(train_data) < recipe.train.batch_size:
        raise UserError(
            f"{train_data.name} has {len(train_data)} images, fewer than one batch of "
            f"{recipe.train.batch_size}; lower train.batch_size"
        )
    names = list(train_data.class_names)
    classes = {"num_classes": len(names), "class_names": names, "class_ids": []}
    return train_data, val_data, dataclasses.replace(recipe, model={**recipe.model, **classes})


def _check_folder(recipe: PretrainRecipe, model_dir: pathlib.Path) -> None:
    path = model_dir / trained.PRETRAINING_FILE
    if path.is_file():
        different = config.differences(recipe, config.load_recipe(path, PretrainRecipe))
        if different:
            raise UserError(
                f"{model_dir} was begun with another recipe ({'; '.join(different)}); use the same "
                "recipe to go on, or another --model_dir to start anew"
            )


def _build(recipe: PretrainRecipe) -> SupernetClassifier:
    model = SupernetClassifier(recipe.model_config(), recipe.data.image_size, name="classifier")
    model.build((1, *recipe.data.image_size, 3))
    return model


def _batches(
    recipe: PretrainRecipe,
    strategy: tf.distribute.Strategy | None,
    data: DetectionDataset,
    progress: checkpoint.Progress,
) -> Callable[[], Any]:
    train, size = recipe.train, recipe.data.image_size

    def of_worker(index: int, count: int) -> tf.data.Dataset:
        return classification.train_batches(
            data, size, train.batch_size, train.seed, progress.step, (index, count)
        )

    return lambda: distribution.share_batches(strategy, train.batch_size, of_worker)


def _callbacks(
    recipe: PretrainRecipe,
    model_dir: pathlib.Path,
    state: checkpoint.TrainingState,
    train_data: DetectionDataset,
    val_data: DetectionDataset | None,
) -> list[keras.callbacks.Callback]:
    train, progress = recipe.train, state.progress
    steps = len(train_data) // train.batch_size
    logs = model_dir / "logs"

    def file_names(step: int) -> list[str]:
        batch = order.batch_indices(len(train_data), train.batch_size, train.seed, step)
        return [str(train_data.files[i]) for i in batch]

    chosen = [
        callbacks.StepCounter(progress, train.batch_size),
        callbacks.NonFiniteStop(progress, steps, file_names, model_dir / "non_finite.json"),
    ]
    if state.averages:
        chosen.append(callbacks.Averaging(state.averages))
    return [
        *chosen,
        _Measurement(recipe, model_dir, state.averages, val_data),
        callbacks.Journal(progress, logs, lambda rows: None, board.Board(logs)),
        callbacks.StateSaver(
            state, checkpoint.StateFolder(model_dir / "state"), steps, train.save_seconds
        ),
        progress_lib.ProgressLine(progress, steps, train.num_epochs),
    ]


class _Measurement(keras.callbacks.Callback):
    """Measures the averaged weights every few epochs, and keeps them."""

    def __init__(
        self,
        recipe: PretrainRecipe,
        model_dir: pathlib.Path,
        averages: averaging.MovingAverages | None,
        data: DetectionDataset | None,
    ):
        super().__init__()
        self._recipe = recipe
        self._model_dir = model_dir
        self._averages = averages
        self._data = data

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        is_last = epoch + 1 == self._recipe.train.num_epochs
        if (epoch + 1) % self._recipe.eval.interval and not is_last:
            return
        if self._averages is None:
            self._measure_and_keep(logs)
            return
        with self._averages.applied():
            self._measure_and_keep(logs)

    def _measure_and_keep(self, logs: dict[str, float]) -> None:
        trained.save_weights(self.model, self._model_dir / WEIGHTS_FILE)
        if self._data is not None:
            logs.update(accuracy(self.model, self._data, self._recipe.eval.batch_size))
