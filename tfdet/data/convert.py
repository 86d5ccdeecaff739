"""Writes a data set as sharded TFRecord files."""

import contextlib
import errno
import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from tfdet import files
from tfdet.data import decode
from tfdet.data.dataset import DetectionDataset
from tfdet.data.loader import ImageLoader
from tfdet.data.tfrecord import LABELS_SUFFIX, open_tfrecord
from tfdet.errors import UserError


def convert(
    dataset: DetectionDataset,
    output_prefix: str,
    num_shards: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    overwrite: bool = False,
) -> list[str]:
    """Writes `<prefix>-00000-of-0000N.tfrecord`, ... and `<prefix>-labels.json`, and checks them.

    Images are copied as they are encoded; damaged ones are left out. The files appear under their
    names only when all are complete.

    Args:
        dataset: any data set.
        output_prefix: directory and start of the file names.
        num_shards: number of files.
        progress: called with (images done, images in all).
        overwrite: whether files of these names are replaced; a `UserError` where there are some
            otherwise.

    Returns:
        The paths of the shards.
    """
    if not 1 <= num_shards <= len(dataset):
        raise UserError(f"expected 1 to {len(dataset)} shards (one image each), got {num_shards}")
    shards = [f"{output_prefix}-{k:05d}-of-{num_shards:05d}.tfrecord" for k in range(num_shards)]
    paths = [*shards, output_prefix + LABELS_SUFFIX]
    if not overwrite:
        refuse_existing(paths)
    os.makedirs(os.path.dirname(output_prefix) or ".", exist_ok=True)
    record_ids = _record_ids(dataset)
    loader = ImageLoader(dataset)
    written = []
    with contextlib.ExitStack() as stack:  # no file gets its name before all are complete
        temporary = [str(stack.enter_context(files.replacing(path))) for path in paths]
        parts = np.array_split(np.arange(len(dataset)), num_shards)
        for path, shard, part in zip(temporary[:-1], shards, parts, strict=True):
            with _errors_of_disk(shard), tf.io.TFRecordWriter(os.fsencode(path)) as writer:
                for i in part:
                    if loader.load(int(i)) is not None:
                        writer.write(_example(dataset, int(i), record_ids))
                        written.append(i)
                    progress(int(i) + 1, len(dataset))
        if not written:
            raise UserError(f"{dataset.name} has no readable image; nothing is written")
        _write_labels(temporary[-1], dataset, record_ids)
    _verify(dataset.select(written), pattern_of(output_prefix, num_shards))
    return shards


def pattern_of(output_prefix: str, num_shards: int) -> str:
    """The pattern of the record files that `convert` writes."""
    return f"{glob.escape(output_prefix)}-*-of-{num_shards:05d}.tfrecord"


def _record_ids(dataset: DetectionDataset) -> list[int]:
    """Class ids in the records: those of the data set, moved up where they start below 1.

    Label 0 means background to the readers of other projects.
    """
    shift = max(0, 1 - min(dataset.class_ids))
    return [class_id + shift for class_id in dataset.class_ids]


def _example(dataset: DetectionDataset, i: int, record_ids: list[int]) -> bytes:
    """The serialised tf.train.Example of an image."""
    encoded, rows = dataset.encoded(i), dataset.rows(i)
    height, width = (int(v) for v in dataset.sizes[i])
    boxes = dataset.boxes[rows].astype(np.float64) / np.tile([width, height], 2)
    labels = dataset.labels[rows]
    features = {
        "encoded": [encoded],
        "format": [decode.image_format(encoded).lower().encode()],
        # Names of files need not be UTF-8.
        "filename": [str(dataset.names[i]).encode("utf-8", "surrogateescape")],
        "source_id": [str(dataset.image_ids[i]).encode("utf-8", "surrogateescape")],
        "key/sha256": [hashlib.sha256(encoded).hexdigest().encode()],
        "height": [height],
        "width": [width],
        "object/bbox/xmin": boxes[:, 0],
        "object/bbox/ymin": boxes[:, 1],
        "object/bbox/xmax": boxes[:, 2],
        "object/bbox/ymax": boxes[:, 3],
        "object/class/label": [record_ids[label] for label in labels],
        "object/class/text": [dataset.class_names[label].encode() for label in labels],
        "object/area": dataset.areas[rows],
        "object/is_crowd": [int(flag) for flag in dataset.is_crowd[rows]],
    }
    feature = {f"image/{key}": _feature(key, list(v)) for key, v in features.items()}
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)  # the same set gives the same files


def _feature(key: str, values: list) -> tf.train.Feature:
    if key.startswith("object/bbox/") or key == "object/area":
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    if key in ("height", "width", "object/class/label", "object/is_crowd"):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _write_labels(path: str, dataset: DetectionDataset, record_ids: list[int]) -> None:
    pairs = zip(record_ids, dataset.class_names, strict=True)
    classes = [{"id": class_id, "name": name} for class_id, name in pairs]
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"classes": classes}, file, indent=1)


def refuse_existing(paths: Iterable[str]) -> None:
    """Refuses to replace files, which may be anybody's."""
    there = [path for path in paths if os.path.lexists(path)]
    if there:
        raise UserError(
            f"{there[0]} is there already; give another --output, or --overwrite to replace it"
        )


@contextlib.contextmanager
def _errors_of_disk(path: str) -> Iterator[None]:
    """TensorFlow's errors of files as Python's, with the name that the file will have."""
    try:
        yield
    except tf.errors.OpError as error:
        is_full = isinstance(error, (tf.errors.ResourceExhaustedError, tf.errors.OutOfRangeError))
        code = errno.ENOSPC if is_full else errno.EIO
        raise OSError(code, os.strerror(code), path) from error


def _verify(expected: DetectionDataset, pattern: str) -> None:
    """Reads what was written and compares it with what was meant."""
    found = open_tfrecord(pattern)
    is_equal = (
        len(found) == len(expected)
        and found.class_names == expected.class_names
        and np.array_equal(found.names, expected.names)
        and np.array_equal(found.boxes, expected.boxes)
        and np.array_equal(found.labels, expected.labels)
        and all(found.encoded(i) == expected.encoded(i) for i in (0, len(expected) - 1))
    )
    if not is_equal:
        raise RuntimeError(f"{pattern} does not hold what {expected.name} has; was it written to?")
