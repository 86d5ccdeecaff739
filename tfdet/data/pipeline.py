"""Data set -> batches, in parallel with tf.data."""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfdet.data.augment import AugmentConfig, augment_image, has_area
from tfdet.data.dataset import DetectionDataset
from tfdet.data.example import Example, load_example, restore_shapes
from tfdet.data.loader import ImageLoader
from tfdet.data.mosaic import mosaic
from tfdet.data.order import RandomOrder, batch_indices, example_seed
from tfdet.data.raster import rasterize
from tfdet.data.scene import SceneMaker
from tfdet.data.windows import WindowOrder, WindowReader
from tfdet.errors import UserError
from tfdet.ops.as_written import as_written
from tfdet.ops.letterbox import letterbox

__all__ = ["batch_indices", "eval_batches", "train_batches"]


def train_batches(
    dataset: DetectionDataset,
    image_size: Sequence[int],
    batch_size: int,
    augment: AugmentConfig | None = None,
    seed: int = 0,
    pad_value: Sequence[float] = (0.0, 0.0, 0.0),
    max_boxes: int = 100,
    start_step: int = 0,
    cache: bool = False,
    shard: tuple[int, int] = (0, 1),
    mask_size: int = 0,
    window_bytes: int = 0,
) -> tf.data.Dataset:
    """Endless shuffled and augmented batches.

    The batch of a step is a function of (seed, step) alone, and what happens to an image one of
    (seed, epoch, index): a run that starts at step k sees what it would have seen without a stop.

    Args:
        dataset: the data set.
        image_size: (height, width) of the batch images.
        batch_size: images per batch, over all shards.
        augment: what is done to the images; None takes the defaults.
        seed: changes the order and all random choices.
        pad_value: colour of the canvas, `model.pad_value`.
        max_boxes: M; the boxes of an image beyond it are left out.
        start_step: the global step of the first batch.
        cache: keep the decoded images in memory.
        shard: (index, count); this process gets its part of the rows of every batch.
        mask_size: Q, `model.mask_size`; 0 for no masks.
        window_bytes: record files are read in long pieces, and images shuffled within windows of so
            many bytes, see `windows`; each shard reads files of its own. 0: all are shuffled.

    Returns:
        Batches `(images float32 [B, H, W, 3] 0-255, targets)`; targets is a dict of `boxes` float32
        [B, M, 4] xyxy pixels, `labels` int32 [B, M] (-1: padding), `is_crowd` bool [B, M], `index`
        int64 [B], `scale` float32 [B] (batch pixels per image pixel), `size` int32 [B, 2], and,
        where wanted, `masks` uint8 [B, M, Q, Q]: 1 where an object is, in the frame of its box.
    """
    _check(dataset, image_size, batch_size)
    config = AugmentConfig() if augment is None else augment
    if not isinstance(config, AugmentConfig):
        raise UserError(f"augment must be an AugmentConfig, got {augment!r}")
    if mask_size:
        _check_masks(dataset, config)
    order, reader = example_order(dataset, window_bytes), None
    if isinstance(order, WindowOrder):
        _check_windows(config)
        reader = WindowReader(order)
    loader = ImageLoader(dataset, keep_decoded=cache, reader=reader)
    if config.geometry == "affine":
        make = SceneMaker(loader, config, image_size).make
    else:
        make = functools.partial(_cropped, loader, config, image_size, pad_value, mask_size > 0)

    @as_written
    def prepare(index, example_seed):
        picture, scale = make(index, example_seed)
        return picture.image, _targets(picture, scale, max_boxes, mask_size)

    plan, rows = planned_examples(order, batch_size, seed, start_step, shard)
    examples = plan.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batched(examples, rows, drop_remainder=True)


def example_order(dataset: DetectionDataset, window_bytes: int) -> RandomOrder | WindowOrder:
    """The order of `train_batches`."""
    return WindowOrder(dataset, window_bytes) if window_bytes else RandomOrder(len(dataset))


def batched(examples: tf.data.Dataset, rows: int, drop_remainder: bool = False) -> tf.data.Dataset:
    """Batches of `rows` examples, the next ones made while one is used.

    tf.data does not tune itself here. Its maps use all cores from the start, so that there is
    little to tune, and the thread that does it sleeps for up to a minute: whoever drops an
    iterator, as each end of a training does, may have to wait until it wakes.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    batches = examples.batch(rows, drop_remainder=drop_remainder)
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def planned_examples(
    order: RandomOrder | WindowOrder,
    batch_size: int,
    seed: int,
    start_step: int,
    shard: tuple[int, int],
) -> tuple[tf.data.Dataset, int]:
    """Endless (position int64, seed int32 [2]) of the images of this process, and its rows a batch.

    Args:
        order: of all images.
        batch_size, seed, start_step, shard: as in `train_batches`.
    """
    rows = _shard_rows(batch_size, shard)

    def positions(step):
        indices, epochs = order.positions(batch_size, seed, int(step), shard)
        pairs = zip(epochs, indices, strict=True)
        return indices, np.stack([example_seed(seed, int(e), int(i)) for e, i in pairs])

    @as_written
    def batch_plan(step):
        indices, seeds = tf.numpy_function(positions, [step], (tf.int64, tf.int32))
        return tf.ensure_shape(indices, [None]), tf.ensure_shape(seeds, [None, 2])

    steps = tf.data.Dataset.counter(start_step)
    return steps.map(batch_plan).unbatch(), rows


def eval_batches(
    dataset: DetectionDataset,
    image_size: Sequence[int],
    batch_size: int,
    pad_value: Sequence[float] = (0.0, 0.0, 0.0),
    max_boxes: int = 100,
    cache: bool = False,
    mask_size: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """One pass over the images in order, fitted to the canvas; the last batch may be smaller.

    A damaged image is left out: its `index` does not appear, and its batch is smaller. So a batch
    has the same images whatever is wrong with others. See `train_batches` for the batch; of a
    `shard` (index, count) there is every count-th batch, whole.
    """
    _check(dataset, image_size, batch_size)
    loader = ImageLoader(dataset, keep_decoded=cache)

    @as_written
    def prepare(index):
        example = load_example(loader, index, replace=False, with_outlines=mask_size > 0)
        canvas, scale = letterbox(example.image, image_size, pad_value)
        example = example._replace(boxes=example.boxes * scale, sides=example.sides * scale)
        return canvas, _targets(example, scale, max_boxes, mask_size)

    index, count = shard
    plan = tf.data.Dataset.range(len(dataset)).batch(batch_size).shard(count, index).unbatch()
    examples = plan.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = batched(examples, batch_size).map(_without_damaged)
    return batches.filter(as_written(lambda _, targets: tf.size(targets["index"]) > 0))


@as_written
def _without_damaged(images: tf.Tensor, targets: dict) -> tuple[tf.Tensor, dict]:
    """The batch without the rows of damaged images, whose `index` is -1."""
    is_good = targets["index"] >= 0

    def some():
        return tf.nest.map_structure(lambda x: tf.boolean_mask(x, is_good), (images, targets))

    return tf.cond(tf.reduce_all(is_good), lambda: (images, targets), some)


def _cropped(
    loader: ImageLoader,
    config: AugmentConfig,
    image_size: Sequence[int],
    pad_value: Sequence[float],
    with_outlines: bool,
    index: tf.Tensor,
    seed: tf.Tensor,
) -> tuple[Example, tf.Tensor]:
    """The picture of an image for geometry "crop", and its scale."""
    mosaic_seed, image_seed = tf.unstack(tf.random.split(seed, 2))
    example = load_example(loader, index, with_outlines=with_outlines)
    if config.mosaic:
        example = _random_mosaic(example, loader, config.mosaic, image_size, mosaic_seed)
    # The ends of outlines are moved as boxes without area.
    points = tf.tile(tf.reshape(example.sides, [-1, 2]), [1, 2])
    count = tf.shape(points)[0]
    boxes = tf.concat([example.boxes, points], axis=0)
    image, boxes, scale = augment_image(
        example.image, boxes, config, image_size, pad_value, image_seed, count
    )
    boxes, points = tf.split(boxes, [tf.shape(boxes)[0] - count, count])
    keep = has_area(boxes)
    is_kept = tf.gather(keep, example.owners)
    new_row = tf.cumsum(tf.cast(keep, tf.int32)) - 1
    picture = example._replace(
        image=image,
        sides=tf.boolean_mask(tf.reshape(points[:, :2], [-1, 4]), is_kept),
        owners=tf.gather(new_row, tf.boolean_mask(example.owners, is_kept)),
        boxes=tf.boolean_mask(boxes, keep),
        labels=tf.boolean_mask(example.labels, keep),
        is_crowd=tf.boolean_mask(example.is_crowd, keep),
    )
    return picture, scale


def _random_mosaic(
    example: Example,
    loader: ImageLoader,
    probability: float,
    size: Sequence[int],
    seed: tf.Tensor,
) -> Example:
    """The example, joined with three others with a probability; `index` and `size` stay its own."""
    chance_seed, choice_seed, split_seed = tf.unstack(tf.random.split(seed, 3))
    count = len(loader.dataset)
    others = tf.random.stateless_uniform([3], choice_seed, 0, count, tf.int64)

    def join():
        examples = [example, *(load_example(loader, i) for i in tf.unstack(others))]
        image, boxes = mosaic(
            [e.image for e in examples], [e.boxes for e in examples], size, split_seed
        )
        return example._replace(
            image=image,
            boxes=boxes,
            labels=tf.concat([e.labels for e in examples], axis=0),
            is_crowd=tf.concat([e.is_crowd for e in examples], axis=0),
        )

    is_joined = tf.random.stateless_uniform([], chance_seed) < probability
    return restore_shapes(tf.cond(is_joined, join, lambda: example))


def _targets(picture: Example, scale: tf.Tensor, max_boxes: int, mask_size: int = 0) -> dict:
    """The targets of one picture, padded to max_boxes rows."""
    masks = {}
    if mask_size:
        masks["masks"] = _masks(picture, max_boxes, mask_size)
    missing = tf.maximum(max_boxes - tf.shape(picture.boxes)[0], 0)
    boxes = tf.pad(picture.boxes[:max_boxes], [[0, missing], [0, 0]])
    labels = tf.pad(picture.labels[:max_boxes], [[0, missing]], constant_values=-1)
    is_crowd = tf.pad(picture.is_crowd[:max_boxes], [[0, missing]])
    return {
        "boxes": tf.ensure_shape(boxes, [max_boxes, 4]),
        "labels": tf.ensure_shape(labels, [max_boxes]),
        "is_crowd": tf.ensure_shape(is_crowd, [max_boxes]),
        "index": picture.index,
        "scale": scale,
        "size": picture.size,
        **masks,
    }


def _masks(picture: Example, max_boxes: int, size: int) -> tf.Tensor:
    is_shown = picture.owners < max_boxes
    sides, owners = (tf.boolean_mask(x, is_shown) for x in (picture.sides, picture.owners))
    masks = rasterize(sides, owners, picture.boxes[:max_boxes], size)
    masks = tf.pad(masks, [[0, max_boxes - tf.shape(masks)[0]], [0, 0], [0, 0]])
    return tf.ensure_shape(masks, [max_boxes, size, size])


def _check_masks(dataset: DetectionDataset, config: AugmentConfig) -> None:
    outlines = dataset.outlines
    if outlines is None or not (len(outlines.points) or outlines.masks):
        raise UserError(
            f"this model learns from masks, but {dataset.name} has no outlines; use a data set "
            "with outlines, or a model without masks"
        )
    bad = [name for name in ("mosaic", "autoaugment") if getattr(config, name)]
    bad += ["geometry: affine"] if config.geometry == "affine" else []
    if bad:
        raise UserError(f"augment.{bad[0]} does not move masks; leave it out of the recipe")


def _check_windows(config: AugmentConfig) -> None:
    """Refuses what takes images from anywhere in the data set."""
    for name in ("mosaic", "mixup", "paste_in"):
        if getattr(config, name):
            raise UserError(
                f"augment.{name} joins images of the whole data set, which data.window_mb does not"
                " read at once; leave one of them out"
            )


def _check(dataset: DetectionDataset, image_size: Sequence[int], batch_size: int) -> None:
    if not isinstance(dataset, DetectionDataset):
        raise UserError(
            f"expected a data set, as tfdet.open_dataset returns it, got {type(dataset).__name__}"
        )
    if len(dataset) == 0:
        raise UserError(f"{dataset.name} has no image")
    if np.shape(image_size) != (2,):
        raise UserError(f"image_size must be (height, width), got {image_size}")
    if batch_size < 1 or min(image_size) < 1:
        raise UserError(
            f"expected a batch size and an image size above 0, got {batch_size}, {image_size}"
        )


def _shard_rows(batch_size: int, shard: tuple[int, int]) -> int:
    _, count = shard
    if batch_size % count:
        raise UserError(
            f"a batch of {batch_size} images does not divide among {count} workers;"
            f" use a multiple of {count}"
        )
    return batch_size // count
