"""The lists of COCO's instances JSON, taken row by row into columns: no object for each box."""

import array
from collections.abc import Container
from typing import Any, ClassVar

import numpy as np

from tfdet.data import decode
from tfdet.data.class_labels import ClassLabels
from tfdet.data.objects import Objects
from tfdet.data.outlines import OutlineCollector
from tfdet.data.problems import Problems
from tfdet.printable import shown

_KINDS = {int: "a whole number of 64 bits", str: "text"}


class Rows:
    """The rows of a list, each of which must have some keys; none is kept after a bad one.

    Attributes:
        lacking: what is wrong with the first row that is none, in words; None if all are.
        mistyped: the key of the first value of a wrong type, and what is wrong with it.
    """

    needed: frozenset[str] = frozenset()
    types: ClassVar[dict[str, tuple[type, ...]]] = {}

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forgets all rows."""
        self.lacking: str | None = None
        self.mistyped: tuple[str, str] | None = None

    def add(self, row: object) -> None:
        """Takes a row."""
        if self.lacking:
            return
        if not isinstance(row, dict) or not self.needed <= row.keys():
            self.lacking = f"lacks {' and '.join(sorted(self.needed))}: {shown(row)}"
        elif not self.mistyped:
            self.mistyped = self._wrong_type(row)
            if not self.mistyped:
                self._take(row)

    def _take(self, row: dict) -> None:
        raise NotImplementedError

    def _wrong_type(self, row: dict) -> tuple[str, str] | None:
        for key, allowed in self.types.items():
            if not _is_of(row[key], allowed):
                expected = " or ".join(_KINDS[t] for t in allowed)
                return key, f"must be {expected}, got {shown(row[key])}"
        return None


class ImageRows(Rows):
    """The list `images`.

    Attributes:
        ids, names, sizes, difficulties: a value for each image.
    """

    needed = frozenset({"id", "file_name"})
    types: ClassVar = {"id": (int, str), "file_name": (str,)}

    def begin(self) -> None:
        super().begin()
        self.ids: list[int | str] = []
        self.names: list[str] = []
        self.sizes: list[tuple[int, int] | None] = []
        self.difficulties = array.array("d")

    def _take(self, row: dict) -> None:
        self.ids.append(row["id"])
        self.names.append(row["file_name"])
        self.sizes.append(decode.as_size(number(row.get("height")), number(row.get("width"))))
        self.difficulties.append(number(row.get("difficulty")))


class CategoryRows(Rows):
    """The list `categories`.

    Attributes:
        ids: an id for each.
        names: a name for each, "" where it has none.
    """

    needed = frozenset({"id"})
    types: ClassVar = {"id": (int,)}

    def begin(self) -> None:
        super().begin()
        self.ids: list[int] = []
        self.names: list[str] = []

    def _take(self, row: dict) -> None:
        name = row.get("name")
        self.ids.append(row["id"])
        self.names.append(name if isinstance(name, str) else "" if name is None else shown(name))


class AnnotationRows(Rows):
    """The list `annotations`; the images that they belong to may come before or after."""

    needed = frozenset({"image_id"})

    def begin(self) -> None:
        super().begin()
        self._outlines = OutlineCollector()
        self._ids = array.array("q")
        self._other_ids: dict[int, int | str | None] = {}  # by row: those that no 64 bits hold
        # Values that are the same have the same number, by the order in which they come.
        self._images: dict[object, int] = {}
        self._classes: dict[object, int] = {}
        self._image_of = array.array("q")
        self._class_of = array.array("q")
        self._boxes = array.array("d")
        self._areas = array.array("d")
        self._crowds = bytearray()

    def add(self, row: object) -> None:
        # Called for each of a million boxes: whatever is odd is left to exceptions.
        if type(row) is not dict or "image_id" not in row or self.lacking:
            super().add(row)
            return
        get = row.get
        image, images = row["image_id"], self._images
        key = image if isinstance(image, (int, str)) else _image_key(image)
        self._image_of.append(images.setdefault(key, len(images)))
        category, classes = get("category_id"), self._classes
        key = category if isinstance(category, (int, str)) else _whole(category)
        self._class_of.append(classes.setdefault(key, len(classes)))
        try:
            self._ids.append(get("id"))
        except (TypeError, OverflowError):
            own = get("id")
            self._other_ids[len(self._ids)] = own if isinstance(own, (int, str)) else None
            self._ids.append(0)
        box = get("bbox")
        try:
            self._boxes.fromlist(box if len(box) == 4 else None)
        except (TypeError, OverflowError):
            is_box = isinstance(box, list) and len(box) == 4
            self._boxes.extend(map(number, box) if is_box else [np.nan] * 4)
        try:
            self._areas.append(get("area"))
        except (TypeError, OverflowError):
            self._areas.append(np.nan)
        crowd = get("iscrowd", 0)
        self._crowds.append(_is_true(crowd) if crowd else 0)
        self._outlines.add(get("segmentation"))

    def kept(self, names: dict[int | str, str], problems: Problems) -> np.ndarray:
        """Rows of annotations whose image is listed, without second ones of the same id.

        Args:
            names: id -> file name of the images.
            problems: counts what is left out.
        """
        self._mean(names)
        images = list(self._images)
        is_listed = np.array([image in names for image in images], bool)
        image_of = np.asarray(self._image_of)
        is_kept = is_listed[image_of]
        for row in np.flatnonzero(~is_kept):
            image = images[image_of[row]]
            problems.add(
                "unknown_image", f"image id {image[0] if isinstance(image, tuple) else image}"
            )
        for row in self._repeated(np.flatnonzero(is_kept)):
            is_kept[row] = False
            own = self._other_ids.get(row, self._ids[row])
            problems.add("duplicate_id", f"{names[images[image_of[row]]]} (box id {own})")
        return np.flatnonzero(is_kept)

    def _mean(self, names: dict[int | str, str]) -> None:
        """Gives images whose ids are written otherwise the ids by which they are listed."""
        meant = [_meant(image, names) for image in self._images]
        if meant == list(self._images):
            return
        self._images = {}
        numbers = [self._images.setdefault(image, len(self._images)) for image in meant]
        self._image_of = array.array("q", np.array(numbers)[np.asarray(self._image_of)])

    def by_image(self, rows: np.ndarray) -> dict[int | str, np.ndarray]:
        """Image id -> its rows among the given ones, in their order."""
        image_of = np.asarray(self._image_of)[rows]
        order = np.argsort(image_of, kind="stable")
        bounds = np.searchsorted(image_of[order], np.arange(1, len(self._images)))
        parts = np.split(rows[order], bounds) if self._images else []
        return dict(zip(self._images, parts, strict=True))

    def objects(self, label_of: ClassLabels) -> Objects:
        """All annotations, without a copy; `label_of` gives the labels of the class ids.

        The rows cannot be used any more.
        """
        ids = [_meant(key, label_of) for key in self._classes]
        labels = np.array([label_of[class_id] for class_id in ids], np.int64)
        boxes = np.asarray(self._boxes).reshape(-1, 4)  # [x, y, width, height]
        with np.errstate(over="ignore", invalid="ignore"):
            boxes[:, 2:] += boxes[:, :2]
        return Objects(
            boxes=boxes,
            labels=labels[np.asarray(self._class_of)],
            is_crowd=np.array(self._crowds, bool),
            areas=np.asarray(self._areas),
            outlines=self._outlines,
        )

    def _repeated(self, rows: np.ndarray) -> list[int]:
        """Those of the rows whose id an earlier one has."""
        other = [int(row) for row in rows if row in self._other_ids] if self._other_ids else []
        plain = np.setdiff1d(rows, other) if other else rows
        firsts = np.unique(np.asarray(self._ids)[plain], return_index=True)[1]
        is_repeated = np.ones(len(plain), bool)
        is_repeated[firsts] = False
        repeated, seen = plain[is_repeated].tolist(), set()
        for row in other:
            own = self._other_ids[row]
            if own is not None and own in seen:
                repeated.append(row)
            seen.add(own)
        return sorted(repeated)


def number(value: object) -> float:
    """A number out of JSON; NaN where it is none."""
    try:
        return float(value) if isinstance(value, (int, float)) else np.nan
    except OverflowError:  # JSON has whole numbers of any length
        return np.nan


def _image_key(value: object) -> Any:
    """An image id that is neither a number nor text; a tuple of its text, which is none."""
    whole = _whole(value)
    return (f"{value}",) if whole is None else whole


def _whole(value: object) -> int | None:
    """A float that some tools write for a whole number; None for anything else."""
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _meant(key: Any, known: Container[int | str]) -> Any:
    """The id that is meant: some tools write "7" for 7, or 7 for "7"."""
    if key in known or not isinstance(key, (int, str)):
        return key
    try:
        other = int(key) if isinstance(key, str) else str(key)
    except ValueError:  # also of more digits than Python reads
        return key
    return other if other in known else key


def _is_of(value: object, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool) or not isinstance(value, types):
        return False
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _is_true(value: object) -> bool:
    """A flag; some tools write it as text."""
    return value.strip().lower() in ("1", "true", "yes") if isinstance(value, str) else bool(value)
