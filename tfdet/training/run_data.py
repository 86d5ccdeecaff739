"""The data of a training run: what it is trained and measured on, and its batches by step."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.config import Recipe
from tfdet.data import loader, pipeline, sources
from tfdet.data.dataset import DetectionDataset
from tfdet.detectors.base import Detector
from tfdet.errors import UserError
from tfdet.printable import counted
from tfdet.training import distribution


@dataclasses.dataclass(frozen=True)
class RunData:
    """Data sets, and how a recipe makes batches of them.

    Attributes:
        recipe: with the classes of the training data.
        strategy: that shares batches out; None for one device.
        train, val: what is trained and measured on; None where nothing is measured.
    """

    recipe: Recipe
    strategy: tf.distribute.Strategy | None
    train: DetectionDataset
    val: DetectionDataset | None

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train) // self.recipe.train.batch_size

    def shared_batches(self, detector: Detector, start_step: int) -> Any:
        """Batches (images, targets) for `fit` from a step on, shared out to all replicas."""
        return distribution.share_batches(
            self.strategy,
            self.recipe.train.batch_size,
            lambda index, count: self._batches(detector, start_step, (index, count)),
        )

    def first_batches(self, detector: Detector, count: int) -> tf.data.Dataset:
        """The first `count` batches of the training, whole."""
        return self._batches(detector, 0, (0, 1)).take(count)

    def _batches(
        self, detector: Detector, start_step: int, shard: tuple[int, int]
    ) -> tf.data.Dataset:
        data, settings = self.recipe.data, self.recipe.train
        return pipeline.train_batches(
            self.train,
            detector.image_size,
            settings.batch_size,
            data.augment,
            settings.seed,
            detector.pad_value,
            max_boxes=data.max_boxes,
            start_step=start_step,
            cache=data.cache,
            shard=shard,
            mask_size=detector.mask_size,
            window_bytes=data.window_mb << 20,
        )

    def files_of_step(self, step: int) -> list[str]:
        """Names of the images of a step, counted from 0."""
        settings, data = self.recipe.train, self.train
        order = pipeline.example_order(data, self.recipe.data.window_mb << 20)
        count = distribution.num_workers(self.strategy)
        parts = [
            order.positions(settings.batch_size, settings.seed, step, (index, count))[0]
            for index in range(count)
        ]
        whole_files = data.spans is None and data.render is None
        return [
            str(data.files[i]) if whole_files else f"image {data.image_ids[i]} of {data.files[i]}"
            for i in np.concatenate(parts)
        ]


def open_data(
    recipe: Recipe, strategy: tf.distribute.Strategy | None, measure: bool = True
) -> RunData:
    """Opens and checks what a recipe names.

    Args:
        recipe: its classes, if it has some, choose those of the data.
        strategy: of the run.
        measure: False opens no validation data.
    """
    if not recipe.data.train:
        raise UserError("no training data: give --data or data.train in the recipe")
    distribution.check_batch_size(strategy, recipe.train.batch_size)
    chosen = recipe.model.get("class_names"), recipe.model.get("class_ids")
    train = sources.open_dataset(recipe.data.train, *chosen)
    val = None
    if recipe.data.val and measure:
        try:
            val = sources.open_dataset(recipe.data.val, train.class_names, train.class_ids)
        except UserError as error:
            raise UserError(
                f"data.val={recipe.data.val}, which --val_data replaces: {error}"
            ) from None
    for dataset in (train, val):
        if dataset:
            loader.check_usable(dataset)
    data = RunData(_with_classes(recipe, train), strategy, train, val)
    if data.steps_per_epoch == 0:
        raise UserError(
            f"{train.name} has {counted(len(train), 'image')}, fewer than one batch of "
            f"{recipe.train.batch_size}; lower train.batch_size"
        )
    return data


def _with_classes(recipe: Recipe, dataset: DetectionDataset) -> Recipe:
    """The recipe with the data set's classes in its model section, so that they travel with it."""
    wanted = recipe.model.get("num_classes", dataset.num_classes)
    if wanted != dataset.num_classes:
        raise UserError(
            f"model.num_classes is {wanted}, but {dataset.name} has "
            f"{counted(dataset.num_classes, 'class')} "
            f"({', '.join(dataset.class_names[:5])}, ...); leave the key out"
        )
    classes = {
        "num_classes": dataset.num_classes,
        "class_names": list(dataset.class_names),
        "class_ids": list(dataset.class_ids),
    }
    return dataclasses.replace(recipe, model={**recipe.model, **classes})
