"""Opens a data set from the one string that names it everywhere: flags, recipes, Python."""

from collections.abc import Sequence

from absl import logging

from tfdet.data.dataset import DetectionDataset
from tfdet.errors import UserError

FORMS = {
    "shapes": "shapes[:train|val[:COUNT]]",
}


def open_dataset(
    spec: str, class_names: Sequence[str] | None = None, class_ids: Sequence[int] | None = None
) -> DetectionDataset:
    """Opens the data set that a string such as "shapes:val" names.

    Args:
        spec: one of the `FORMS`.
        class_names: classes to use in this order, e.g. those of a trained model; None takes those
            of the data set.
        class_ids: ids that belong to class_names; None numbers them from 1.

    Returns:
        The data set. Damaged images and boxes are left out; `problems` counts them.
    """
    kind, *parts = spec.split(":")
    if kind not in _OPENERS:
        raise UserError(f"expected one of {', '.join(FORMS.values())}; got {spec!r}")
    dataset = _OPENERS[kind](spec, *parts)
    if class_names:
        ids = class_ids or range(1, len(class_names) + 1)
        dataset = dataset.with_classes(class_names, ids)
    if dataset.problems.num_damaged:
        logging.warning("%s: %s", spec, "; ".join(dataset.problems.lines()))
    return dataset


def _shapes(spec: str, split: str = "train", count: str | None = None, *rest: str):
    from tfdet.data.shapes import open_shapes

    if rest or (count is not None and not count.isdigit()):
        raise UserError(f"expected {FORMS['shapes']}, got {spec!r}")
    return open_shapes(split, None if count is None else int(count))


_OPENERS = {"shapes": _shapes}
