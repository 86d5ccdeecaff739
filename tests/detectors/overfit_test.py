"""Small detectors learn a handful of images by heart: the shortest proof that all parts fit."""

import keras
import numpy as np
import pytest

import tfdet
from tfdet.data import augment, pipeline
from tfdet.evaluation import coco

STILL = augment.AugmentConfig(flip=0.0, jitter_min=1.0, jitter_max=1.0)


def memorise(model, dataset, steps, rate):
    """Trains on the same images, unchanged; returns the COCO numbers on them."""
    # A few hundred steps are too short a memory for statistics with the published momentum 0.99:
    # the loss is near zero then, and the AP too.
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
    batches = pipeline.train_batches(
        dataset,
        model.image_size,
        len(dataset),
        STILL,
        pad_value=model.pad_value,
        cache=True,
        mask_size=model.mask_size,
    )
    schedule = keras.optimizers.schedules.CosineDecay(
        rate / 10, steps, warmup_target=rate, warmup_steps=steps // 10
    )
    model.compile(optimizer=keras.optimizers.Adam(schedule, global_clipnorm=10.0))
    model.fit(batches, steps_per_epoch=steps, verbose=0)
    return tfdet.evaluate(model, dataset, batch_size=8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps"),
    [("efficientdet-nano", 300), ("faster-rcnn-nano", 300), ("mask-rcnn-nano", 400)],
)
def test_eight_shapes_images_are_memorised(name, steps):
    dataset = tfdet.open_dataset("shapes:val").subset(8)
    keras.utils.set_random_seed(0)
    model = tfdet.create(
        name, image_size=(128, 128), num_classes=dataset.num_classes, weight_decay=0.0
    )
    result = memorise(model, dataset, steps=steps, rate=3e-3)
    assert result["AP"] > 0.9
    assert not model.mask_size or result["mask/AP"] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes", "steps"),
    [
        ("efficientdet-nano", {"anchor_scale": 3.0}, 300),
        ("faster-rcnn-nano", {}, 400),
        ("mask-rcnn-nano", {}, 400),
    ],
)
def test_sixteen_photographs_are_memorised(coco_tiny, name, changes, steps):
    dataset = photographs(coco_tiny)
    keras.utils.set_random_seed(0)
    model = tfdet.create(
        name,
        image_size=(256, 256),
        num_classes=dataset.num_classes,
        weight_decay=0.0,
        **changes,
    )
    result = memorise(model, dataset, steps=steps, rate=3e-3)
    assert result["AP50"] > 0.9
    assert not model.mask_size or result["mask/AP50"] > 0.9


@pytest.mark.parametrize(("cells", "least"), [(112, 1.0), (28, 0.95)])
def test_targets_of_the_photographs_fed_back_are_right(coco_tiny, cells, least):
    dataset = photographs(coco_tiny)
    evaluator = coco.CocoEvaluator(dataset)
    for _, targets in pipeline.eval_batches(dataset, (256, 256), 1, mask_size=cells):
        labels = targets["labels"].numpy()
        found = {
            "boxes": targets["boxes"].numpy() / targets["scale"].numpy(),
            "scores": np.ones(labels.shape),
            "labels": labels,
            "count": [np.sum(labels >= 0)],
            "masks": targets["masks"].numpy().astype(float),
        }
        evaluator.add([int(targets["index"][0])], found)
    result = evaluator.result()
    assert result["AP"] == pytest.approx(1.0)
    assert result["mask/AP"] > least - 1e-6


def photographs(coco_tiny):
    """16 photographs whose objects are large enough for a small canvas."""
    spec = f"coco:{coco_tiny}/annotations/instances_train2017.json:{coco_tiny}/train2017"
    return with_large_objects(tfdet.open_dataset(spec), count=16)


def with_large_objects(dataset, count):
    """The images whose smallest object is largest; the canvas has few pixels for small ones."""
    smallest = [
        np.sqrt(dataset.areas[dataset.rows(i)].min(initial=np.inf)) for i in range(len(dataset))
    ]
    smallest = np.where(np.isinf(smallest), 0, smallest)
    return dataset.select(np.sort(np.argsort(-smallest)[:count]))
