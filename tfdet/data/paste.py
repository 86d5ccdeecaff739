"""Cuts objects out of images and pastes them into others, as YOLOv7's "paste-in" does it."""

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from tfdet.data.collage import insert
from tfdet.data.example import Example
from tfdet.data.loader import ImageLoader
from tfdet.errors import UserError

# Published: the largest side of a trial box as a share of the image's, one for each trial.
_LIMITS = 2 * [0.75] + 4 * [0.5] + 4 * [0.25] + 4 * [0.125] + 6 * [0.0625]
_SKIPPED = 0.2  # of the trials
_LARGEST_COVER = 0.3  # of any box that is there
_LEAST_TRIAL_SIDE, _LEAST_SIDE, _LEAST_PIXELS = 20, 10, 60


class CutOuts:
    """The objects of a data set, cut out along their outlines.

    Args:
        loader: gives the images.
    """

    def __init__(self, loader: ImageLoader):
        self._loader = loader
        dataset = loader.dataset
        outlines = dataset.outlines
        if outlines is not None:
            has_outline = np.diff(outlines.object_offsets) > 0
            self._rows = np.flatnonzero(has_outline & ~dataset.is_crowd)
        if outlines is None or not len(self._rows):
            raise UserError(
                f"augment.paste_in cuts objects out along their outlines, but {dataset.name} has"
                " boxes only; set augment.paste_in to 0"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Cut-out k: uint8 [h, w, 4], RGB and 255 where the object is; and its label.

        A damaged image gives one pixel of nothing.
        """
        pixels, label = tf.numpy_function(self._cut_out, [k], (tf.uint8, tf.int32))
        return tf.ensure_shape(pixels, [None, None, 4]), tf.ensure_shape(label, [])

    def _cut_out(self, k) -> tuple[np.ndarray, np.int32]:
        dataset, row = self._loader.dataset, int(self._rows[k])
        position = int(np.searchsorted(dataset.box_offsets, row, side="right")) - 1
        image, rings = self._loader.load(position), dataset.outlines.rings(row)
        nothing = np.zeros((1, 1, 4), np.uint8), dataset.labels[row]
        if image is None:
            return nothing
        points = np.concatenate(rings)
        limits = np.array(image.shape[1::-1])
        left, top = np.clip(np.floor(points.min(axis=0)).astype(int), 0, limits)
        right, bottom = np.clip(np.ceil(points.max(axis=0)).astype(int), 0, limits)
        if right <= left or bottom <= top:
            return nothing
        mask = Image.new("L", (int(right - left), int(bottom - top)))
        for ring in rings:
            # Pillow counts in pixel centres.
            corners = ring - np.array([left, top]) - 0.5
            ImageDraw.Draw(mask).polygon([tuple(p) for p in corners.tolist()], fill=255)
        part = image[top:bottom, left:right]
        return np.concatenate([part, np.asarray(mask)[..., np.newaxis]], axis=2), dataset.labels[
            row
        ]


def paste_in(example: Example, cut_outs: CutOuts, seed: tf.Tensor) -> Example:
    """An example with up to twenty objects of other images pasted in where there is room.

    Differs from the published procedure in one point: each object is drawn from the whole data
    set, instead of from a pool of at least thirty out of a few random mosaics, which has the same
    distribution and costs more images to load.

    Args:
        example: image float32 [H, W, 3] of static shape.
        cut_outs: what is pasted.
        seed: [2].
    """
    trial_seed, choice_seed, skip_seed = tf.unstack(tf.random.split(seed, 3))
    trials = _trial_boxes(tuple(example.image.shape[:2]), trial_seed)
    choices = tf.random.stateless_uniform([len(_LIMITS)], choice_seed, 0, len(cut_outs), tf.int64)
    is_tried = tf.random.stateless_uniform([len(_LIMITS)], skip_seed) >= _SKIPPED
    is_tried &= tf.reduce_all(trials[:, 2:] - trials[:, :2] > _LEAST_TRIAL_SIDE, axis=1)
    numbers = tf.where(is_tried)[:, 0]

    def attempt(n, image, boxes, labels):
        trial = trials[numbers[n]]
        has_room = tf.reduce_all(_cover(boxes, tf.cast(trial, tf.float32)) < _LARGEST_COVER)
        image, boxes, labels = tf.cond(
            has_room,
            lambda: _paste(image, boxes, labels, trial, *cut_outs.load(choices[numbers[n]])),
            lambda: (image, boxes, labels),
        )
        return n + 1, image, boxes, labels

    _, image, boxes, labels = tf.while_loop(
        lambda n, *_: n < tf.size(numbers),
        attempt,
        [tf.constant(0), example.image, example.boxes, example.labels],
        shape_invariants=[tf.TensorShape(x) for x in ([], [None, None, 3], [None, 4], [None])],
    )
    num_new = tf.size(labels) - tf.size(example.labels)
    return example._replace(
        image=tf.ensure_shape(image, example.image.shape),
        boxes=boxes,
        labels=labels,
        is_crowd=tf.pad(example.is_crowd, [[0, num_new]]),
    )


def _trial_boxes(size, seed) -> tf.Tensor:
    """Random boxes int32 [20, 4] (xyxy) within an image of (height, width), the largest first."""
    draws = tf.random.stateless_uniform([len(_LIMITS), 4], seed)
    image = tf.constant(size[::-1], tf.float32)
    sides = 1 + draws[:, :2] * tf.constant(_LIMITS)[:, tf.newaxis] * image
    centres = draws[:, 2:] * image
    boxes = tf.concat([centres - sides / 2, centres + sides / 2], axis=1)
    return tf.cast(tf.clip_by_value(boxes, 0.0, tf.tile(image, [2])), tf.int32)


def _cover(boxes, trial) -> tf.Tensor:
    """Which shares of boxes [N, 4] a trial box [4] covers."""
    overlap = tf.minimum(boxes[:, 2:], trial[2:]) - tf.maximum(boxes[:, :2], trial[:2])
    areas = tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return tf.math.divide_no_nan(tf.reduce_prod(tf.maximum(overlap, 0.0), axis=1), areas)


def _paste(image, boxes, labels, trial, cut_out, label):
    """Puts a cut-out into the corner of a trial box, as large as fits, unless little is left."""
    own_size = tf.shape(cut_out)[:2]
    room = (trial[2:] - trial[:2])[::-1]
    ratio = tf.reduce_min(tf.cast(room, tf.float32) / tf.cast(own_size, tf.float32))
    new_size = tf.cast(tf.round(tf.cast(own_size, tf.float32) * ratio), tf.int32)
    new_size = tf.clip_by_value(new_size, 1, room)
    scaled = tf.cast(tf.image.resize(cut_out, new_size), tf.float32)
    is_object = scaled[:, :, 3:] > 127.5
    num_pixels = tf.math.count_nonzero(is_object, dtype=tf.int32)
    is_left = tf.reduce_all(new_size > _LEAST_SIDE) & (num_pixels > _LEAST_PIXELS)

    def put():
        x, y = trial[0], trial[1]
        behind = image[y : y + new_size[0], x : x + new_size[1]]
        part = tf.where(is_object, scaled[:, :, :3], behind)
        box = tf.concat([trial[:2], trial[:2] + tf.reverse(new_size, [0])], axis=0)
        return (
            insert(image, part, tf.stack([y, x])),
            tf.concat([boxes, tf.cast(box, tf.float32)[tf.newaxis]], axis=0),
            tf.concat([labels, label[tf.newaxis]], axis=0),
        )

    return tf.cond(is_left, put, lambda: (image, boxes, labels))
