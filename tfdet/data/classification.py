"""Batches of images with one label each, as ImageNet's recipes make them."""

import tensorflow as tf

from tfdet.data import pipeline
from tfdet.data.dataset import DetectionDataset
from tfdet.data.example import load_example
from tfdet.data.loader import ImageLoader
from tfdet.data.order import RandomOrder
from tfdet.ops.as_written import as_written

# Of the image's area and of width over height, the usual ones of random crops.
_AREAS = (0.08, 1.0)
_ASPECTS = (3 / 4, 4 / 3)
# The centre that is looked at in evaluation is 224 of 256 pixels.
_CENTRE = 224 / 256


def train_batches(
    dataset: DetectionDataset,
    image_size: tuple[int, int],
    batch_size: int,
    seed: int = 0,
    start_step: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Endless shuffled batches of random crops, half of them mirrored.

    Order and randomness are those of `pipeline.train_batches`: a run can go on at any step.

    Returns:
        `(images float32 [B, H, W, 3] 0-255, labels int32 [B])`.
    """
    loader = ImageLoader(dataset)

    @as_written
    def prepare(index: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = load_example(loader, index)
        return _random_crop(example.image, image_size, seed), example.labels[0]

    plan, rows = pipeline.planned_examples(
        RandomOrder(len(dataset)), batch_size, seed, start_step, shard
    )
    examples = plan.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return pipeline.batched(examples, rows, drop_remainder=True)


def eval_batches(
    dataset: DetectionDataset, image_size: tuple[int, int], batch_size: int
) -> tf.data.Dataset:
    """One pass over the middles of the images; damaged ones are left out, see `train_batches`."""
    loader = ImageLoader(dataset)

    @as_written
    def prepare(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = load_example(loader, index, replace=False)
        label = tf.reduce_max(tf.concat([example.labels, [-1]], axis=0))  # -1: damaged
        return _centre(example.image, image_size), label

    examples = tf.data.Dataset.range(len(dataset))
    examples = examples.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    examples = examples.filter(as_written(lambda _, label: label >= 0))
    return pipeline.batched(examples, batch_size)


def _random_crop(image: tf.Tensor, size: tuple[int, int], seed: tf.Tensor) -> tf.Tensor:
    crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros([1, 0, 4]),
        crop_seed,
        min_object_covered=0.0,
        aspect_ratio_range=_ASPECTS,
        area_range=_AREAS,
        use_image_if_no_bounding_boxes=True,
    )
    crop = tf.slice(image, begin, extent)
    # Without antialiasing a large photograph would be sampled at single pixels.
    crop = tf.image.resize(crop, size, antialias=True)
    return tf.ensure_shape(tf.image.stateless_random_flip_left_right(crop, flip_seed), [*size, 3])


def _centre(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """The largest middle of the shape of `size`, less a margin."""
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = _CENTRE * tf.reduce_min(sides / size)
    extent = tf.maximum(tf.cast(tf.round(scale * size), tf.int32), 1)
    top, left = tf.unstack((tf.shape(image)[:2] - extent) // 2)
    crop = image[top : top + extent[0], left : left + extent[1]]
    return tf.ensure_shape(tf.image.resize(crop, size, antialias=True), [*size, 3])
