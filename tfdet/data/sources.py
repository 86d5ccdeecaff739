"""Opens a data set from the one string that names it everywhere: flags, recipes, Python."""

import itertools
import os
import re
from collections.abc import Sequence

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
    "coco": "coco:ANNOTATIONS.json:IMAGE_DIR",
    "voc": "voc:DIR:SPLIT",
    "yolo": "yolo:DATA.yaml:SPLIT",
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
    if len(parts) > most:
        parts = _with_colons(parts, most) or parts
    if not least <= len(parts) <= most or "" in parts:
        raise UserError(f"expected {FORMS[kind]}, got {spec!r}")
    return opener(*parts)


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


# Kind -> (function, least and most number of parts after the kind).
_OPENERS = {
    "shapes": (_shapes, 0, 2),
    "coco": (open_coco, 2, 2),
    "voc": (open_voc, 2, 2),
    "yolo": (open_yolo, 2, 2),
    "tfrecord": (open_tfrecord, 1, 2),
}
