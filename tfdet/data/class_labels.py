"""Labels of the classes of a data set, also of those that boxes have and its list lacks."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tfdet.data.problems import Problems
from tfdet.printable import shown

_MOST_NAMED = 5  # classes


class ClassLabels(dict[Any, int]):
    """Class id or name -> label: 0, 1, ... in the order of the list.

    Args:
        classes: ids or names of the list.

    Attributes:
        unknown: classes that were asked for and are not in the list. They get the labels
            -1, -2, ... in this order.
    """

    def __init__(self, classes: Iterable[Any]):
        super().__init__({key: label for label, key in enumerate(classes)})
        self.unknown: list[Any] = []

    def __missing__(self, key: Any) -> int:
        self.unknown.append(key)
        self[key] = -len(self.unknown)
        return self[key]


def count_left_out(
    problems: Problems,
    classes: Sequence[str],
    listed: Sequence[str],
    labels: np.ndarray,
    files: Sequence[str],
) -> None:
    """Counts boxes of classes of a data set that another list, such as a model's, lacks.

    Args:
        problems: where they are counted.
        classes: names in the data set.
        listed: names in the other list.
        labels: [n], places in `classes`, of the boxes that are left out.
        files: [n], names of their images.
    """
    by_fold = {name.casefold(): name for name in listed}

    def called(label: int) -> str:
        near = difflib.get_close_matches(classes[label].casefold(), by_fold, 1, 0.8)
        return f"{classes[label]!r}" + (f" (is it {by_fold[near[0]]!r}?)" if near else "")

    _count(problems, labels, files, called)


def count_unknown(
    problems: Problems,
    classes: Sequence[Any],
    unknown: Sequence[Any],
    labels: np.ndarray,
    files: Sequence[str],
) -> None:
    """Counts boxes of classes that are not in the list, and names these classes.

    Args:
        problems: where they are counted.
        classes: ids or names of the list.
        unknown: classes of the labels -1, -2, ...
        labels: [n] of all boxes.
        files: names of the images of the boxes whose label is below 0.
    """
    hint = _hint_of_shift(classes, unknown, labels)
    lost = labels[labels < 0]
    _count(problems, lost, files, lambda label: f"{shown(unknown[-1 - label])}{hint}")


def _count(
    problems: Problems, labels: np.ndarray, files: Sequence[str], called: Callable[[int], str]
) -> None:
    """Counts boxes by their images, and names the classes with most of them."""
    for file, count in zip(*np.unique(files, return_counts=True), strict=True):
        problems.add("unknown_class", str(file), count)
    found, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    for place in order[:_MOST_NAMED]:
        name = called(int(found[place]))
        problems.add_detail("unknown_class", f"{counts[place]} of {name}")
    if len(order) > _MOST_NAMED:
        problems.add_detail("unknown_class", f"and {len(order) - _MOST_NAMED} other classes")


def _hint_of_shift(classes: Sequence[Any], unknown: Sequence[Any], labels: np.ndarray) -> str:
    """What to do where ids seem to count from 1 in place of 0, or from 0 in place of 1."""
    ids = [key for key in classes if isinstance(key, int)]
    if len(unknown) != 1 or not isinstance(unknown[0], int) or len(ids) != len(classes):
        return ""
    has_boxes = np.isin(np.arange(len(ids)), labels)
    if unknown[0] == ids[-1] + 1 and not has_boxes[0]:
        return f" (no box has the first id, {ids[0]}; do the ids of the boxes count from 1?)"
    if unknown[0] == ids[0] - 1 and not has_boxes[-1]:
        return f" (no box has the last id, {ids[-1]}; do the ids of the boxes count from 0?)"
    return ""
