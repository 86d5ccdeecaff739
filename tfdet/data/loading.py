"""A data set as batches for a model, by the string that names it."""

from typing import Any

import tensorflow as tf

from tfdet.data import pipeline, sources
from tfdet.data.augment import AugmentConfig
from tfdet.data.dataset import DetectionDataset
from tfdet.errors import UserError
from tfdet.printable import counted


def load(
    source: str | DetectionDataset,
    model: Any,
    batch_size: int = 8,
    training: bool = False,
    augment: AugmentConfig | None = None,
    seed: int = 0,
    cache: bool = False,
) -> tf.data.Dataset:
    """Batches of a data set as a detector takes them.

    Example:
        model = tfdet.create("fcos-nano", num_classes=5)
        train = tfdet.data.load("shapes:train", model, batch_size=16, training=True)
        val = tfdet.data.load("shapes:val", model)
        model.compile(optimizer="adam")
        model.fit(train, steps_per_epoch=125, epochs=10, validation_data=val)

    Args:
        source: what `open_dataset` takes, or what it returned.
        model: a detector; its image size, classes and kind of masks decide.
        batch_size: images per batch.
        training: True gives endless shuffled and augmented batches, for which `fit` needs
            `steps_per_epoch`; False one pass over the images in order, as they are.
        augment: what is done to training images; None takes the defaults.
        seed: changes the order and all random choices.
        cache: keep decoded images in memory.

    Returns:
        Batches (images, targets), see `pipeline.train_batches`.
    """
    if augment is not None and not training:
        raise UserError("augment is for training=True; images are left as they are otherwise")
    dataset = _of_classes(source, model)
    masks = model.mask_size if dataset.outlines is not None else 0
    if not training:
        return pipeline.eval_batches(
            dataset, model.image_size, batch_size, model.pad_value, cache=cache, mask_size=masks
        )
    return pipeline.train_batches(
        dataset,
        model.image_size,
        batch_size,
        augment,
        seed,
        model.pad_value,
        cache=cache,
        mask_size=masks,
    )


def _of_classes(source: str | DetectionDataset, model: Any) -> DetectionDataset:
    """The data set with the model's classes: by name, or as many where the model has no names."""
    dataset = source if isinstance(source, DetectionDataset) else sources.open_dataset(source)
    names = model.config.class_names
    if names:
        return dataset.with_classes(names, model.class_ids)
    if dataset.num_classes != model.num_classes:
        raise UserError(
            f"{dataset.name} has {counted(dataset.num_classes, 'class')}, and the model "
            f"{model.num_classes}; create it with num_classes={dataset.num_classes}, or with "
            "class_names=[...] of those that it is for"
        )
    return dataset
