"""Opens a data set from the one string that names it everywhere: flags, recipes, Python."""

import itertools
import os
import re
from collections.abc import Sequence

from absl import logging

from tfdet.data import layouts
from tfdet.data.coco import open_coco
from tfdet.data.dataset import DetectionDataset
from tfdet.data.shapes import open_shapes
from tfdet.data.tfrecord import open_tfrecord
from tfdet.data.voc import open_voc
from tfdet.data.yolo import open_yolo
from tfdet.errors import UserError
from tfdet.printable import shown

FORMS = {
    "shapes": "shapes[:train|val[:COUNT]]",
    "coco": "coco:ANNOTATIONS.json[:IMAGE_DIR][:train|val]",
    "voc": "voc:DIR[:SPLIT]",
    "yolo": "yolo:DATA.yaml[:SPLIT] or yolo:DIR[:SPLIT]",
    "tfrecord": "tfrecord:PATTERN[:LABELS]",
}


def open_dataset(
    spec: str, class_names: Sequence[str] | None = None, class_ids: Sequence[int] | None = None
) -> DetectionDataset:
    """Opens the data set that a string such as "shapes:val" names.

    Args:
        spec: one of the `FORMS`.
        class_names: classes to use in this order, e.g. those of a trained model; None takes those
            of the data set.
        class_ids: ids that belong to class_names; None takes those of the data set, or numbers the
            classes from 1 where it lacks one.

    Returns:
        The data set. Damaged images and boxes are left out; `problems` counts them.
    """
    dataset = read_source(spec)
    if class_names:
        own = dict(zip(dataset.class_names, dataset.class_ids, strict=True))
        if not class_ids and set(class_names) <= own.keys():
            class_ids = [own[name] for name in class_names]
        ids = class_ids or range(1, len(class_names) + 1)
        dataset = dataset.with_classes(class_names, ids)
    if dataset.assumed:
        logging.warning("%s: %s", spec, "; ".join(dataset.assumed))
    dataset.problems.warn(spec)
    return dataset


def read_source(spec: str) -> DetectionDataset:
    """`open_dataset` with the data set's own classes and without a warning about what is wrong."""
    if not isinstance(spec, str):
        raise UserError(f"expected text such as {FORMS['coco']} for a data set, got {shown(spec)}")
    kind, *parts = re.split(":(?!//)", spec)  # gs://... is one part
    if kind not in _OPENERS:
        raise UserError(f"expected one of {', '.join(FORMS.values())}; got {spec!r}")
    opener, least, most = _OPENERS[kind]
    parts = _with_drives(parts)
    may_be = least <= len(parts) <= most
    if len(parts) > 1 and not (may_be and os.path.exists(parts[0])):
        ways = (_with_colons(parts, count) for count in range(most, 0, -1))
        found = next(filter(None, ways), None)
        parts, may_be = (found, True) if found else (parts, may_be)
    if not may_be or "" in parts:
        raise UserError(f"expected {FORMS[kind]}, got {spec!r}")
    return opener(*parts)


def _with_drives(parts: list[str]) -> list[str]:
    """`parts` with C and \\data as C:\\data, unless there is a file or folder named C here."""
    joined: list[str] = []
    for part in parts:
        drive = joined[-1] if joined else ""
        is_drive = re.fullmatch("[A-Za-z]", drive) and not os.path.exists(drive)
        if is_drive and part.startswith(("\\", "/")):
            joined[-1] = f"{drive}:{part}"
        else:
            joined.append(part)
    return joined


def _with_colons(parts: list[str], count: int) -> list[str] | None:
    """`parts` as `count` of them where some are one path with colons in it, such as C:/data.

    Each path of the last `count - 1` gaps is tried; the first is to be there. None for no way.
    """
    gaps = range(1, len(parts))
    for cuts in itertools.combinations(gaps, count - 1):
        ends = zip((0, *cuts), (*cuts, len(parts)), strict=True)
        joined = [":".join(parts[start:end]) for start, end in ends]
        if os.path.exists(joined[0]):
            return joined
    return None


def _shapes(split: str = "train", count: str | None = None) -> DetectionDataset:
    if count is not None and not re.fullmatch("[0-9]{1,18}", count):
        raise UserError(f"expected {FORMS['shapes']}, got the count {shown(count)}")
    return open_shapes(split, None if count is None else int(count))


def _coco(path: str, *more: str) -> DetectionDataset:
    """What follows the annotations is a directory, a split to be made, or both."""
    image_dir = ":".join(more)
    if not more or os.path.isdir(image_dir):
        return open_coco(path, image_dir or None)
    *before, last = more
    is_split = layouts.split_of(last) if os.path.isdir(path) else last in _MADE
    if is_split:
        return open_coco(path, ":".join(before) or None, last)
    if len(more) > 1:
        raise UserError(f"expected {FORMS['coco']}, got {':'.join(['coco', path, *more])!r}")
    return open_coco(path, image_dir)


_MADE = ("train", "val")  # see `splits.made`

# Kind -> (function, least and most number of parts after the kind).
_OPENERS = {
    "shapes": (_shapes, 0, 2),
    "coco": (_coco, 1, 3),
    "voc": (open_voc, 1, 2),
    "yolo": (open_yolo, 1, 2),
    "tfrecord": (open_tfrecord, 1, 2),
}
