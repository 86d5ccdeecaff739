"""Collects the annotations of a reader, cleans them and makes them a `DetectionDataset`."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Sequence

import numpy as np

from tfdet import limits
from tfdet.data import decode
from tfdet.data.class_labels import count_unknown
from tfdet.data.dataset import DetectionDataset
from tfdet.data.objects import ObjectCollector, Objects
from tfdet.data.outlines import gather
from tfdet.data.problems import Problems
from tfdet.errors import UserError
from tfdet.printable import clean_name, shown


class DatasetBuilder:
    """What every reader fills, so that all formats are cleaned, ordered and rounded alike.

    Boxes are kept to a hundredth of a pixel, the precision of COCO's own files: a coordinate that
    went through YOLO's text or the float32 fractions of a TFRecord comes back as the same number.
    Images are ordered by file name without extension, since each format lists them in another
    order.
    """

    def __init__(
        self,
        name: str,
        class_names: Iterable[str],
        class_ids: Sequence[int] | None = None,
        problems: Problems | None = None,
        objects: Objects | None = None,
        unknown: Sequence = (),
    ):
        """Begins without images.

        `objects` are those of `add_image_of_rows`; `unknown` are ids or names of the classes that
        have the labels -1, -2, ..., and may grow until `build`, see `class_labels.ClassLabels`.
        """
        self.name = name
        given = list(class_names)
        self.class_ids = tuple(class_ids or range(1, len(given) + 1))
        pairs = zip(given, self.class_ids, strict=True)
        # One without a name is called by its id.
        self.class_names = tuple(clean_name(text) or str(class_id) for text, class_id in pairs)
        self.problems = problems or Problems()
        self._check_classes()
        self._images: list[tuple] = []
        self._rows: list[np.ndarray] = []  # of the objects of each image
        self._seen: set = set()
        self._objects = objects
        self._unknown = unknown
        self._collector = ObjectCollector()

    def _check_classes(self) -> None:
        """Refuses names that are the same, and counts those that nearly are."""
        if len(self.class_names) > limits.MAX_CLASSES:
            raise UserError(
                f"{self.name} has {len(self.class_names)} classes; at most {limits.MAX_CLASSES} are"
                " read"
            )
        for class_id in self.class_ids:
            if not -(2**63) <= class_id < 2**63:
                raise UserError(f"{self.name}: the class id {shown(class_id)} is over 64 bits")
        alike = collections.defaultdict(list)
        for name in self.class_names:
            alike[name.casefold()].append(name)
        for names in alike.values():
            if len(set(names)) < len(names):
                twice = max(names, key=names.count)
                raise UserError(
                    f"{self.name} has two classes named {twice!r}; give each its own name"
                )
            if len(names) > 1:
                self.problems.add("similar_classes", " and ".join(names))

    def add_image(
        self,
        image_id: int | str,
        file_name: str,
        file: str,
        size: tuple[int, int] | None,
        boxes: Sequence,
        labels: Sequence[int],
        is_crowd: Sequence[bool] | None = None,
        areas: Sequence[float] | None = None,
        segmentations: Sequence | None = None,
        span: tuple[int, int] | None = None,
        difficulty: float = np.nan,
    ) -> None:
        """Adds an image with n boxes; a second one of the same id or file is counted and left out.

        Args:
            image_id: the id of the data set.
            file_name: the name of the image inside the data set; orders the images.
            file: path of the file that holds the image.
            size: (height, width) as annotated, see `decode.as_size`; None takes it from the
                image's header.
            boxes: [n, 4] xyxy in pixels of the image.
            labels: [n]; below 0 for a class that is not in the list.
            is_crowd, areas, segmentations: [n], or None where the format has none.
            span: (offset, length) of the image in a file that holds more than one.
            difficulty: 0 easy to 1 hard, NaN where it is not known.
        """
        if self._is_added(image_id, file_name, file, size, span, difficulty):
            rows = self._collector.add(boxes, labels, is_crowd, areas, segmentations)
            self._rows.append(rows)

    def add_image_of_rows(
        self,
        rows: np.ndarray,
        image_id: int | str,
        file_name: str,
        file: str,
        size: tuple[int, int] | None,
        difficulty: float = np.nan,
        span: tuple[int, int] | None = None,
    ) -> None:
        """As `add_image`, with rows int64 [n] of the builder's `objects` in place of boxes."""
        if self._is_added(image_id, file_name, file, size, span, difficulty):
            self._rows.append(rows)

    def _is_added(self, image_id, file_name, file, size, span, difficulty) -> bool:
        """Adds an image without its boxes, if it can be used."""
        keys = {("id", str(image_id)), ("file", file, span)}
        if self._seen & keys:
            self.problems.add("duplicate_id", file_name)
            return False
        self._seen |= keys
        if span is None and not os.path.isfile(file):
            self.problems.add("missing_image", file)
            return False
        if size is None:
            try:
                size = decode.displayed_size(file)
            except decode.ImageError as error:
                self.problems.add(error.kind, file)
                return False
        self._images.append((image_id, file_name, file, size, span, difficulty))
        return True

    def build(self, render=None) -> DetectionDataset:
        """The cleaned data set; `render` makes its images if they are not in files."""
        if not self._images:
            details = "; ".join(self.problems.lines()) or "it lists none"
            raise UserError(f"{self.name} has no usable image: {details}")
        ids, names, files, sizes, spans, grades = zip(*self._images, strict=True)
        sizes = np.array(sizes, np.int32)
        counts = [len(rows) for rows in self._rows]
        image_of_box = np.repeat(np.arange(len(ids)), counts)
        rows = np.concatenate(self._rows)
        objects = self._collector.objects() if self._objects is None else self._objects
        self._images, self._rows, self._seen = [], [], set()  # large, and of no use any more
        columns, kept = self._clean(objects, rows, image_of_box, sizes, names)
        rows, image_of_box = rows[kept], image_of_box[kept]
        counts = np.bincount(image_of_box, minlength=len(ids))
        for i in np.flatnonzero(counts == 0):
            self.problems.add("empty_image", names[i])
        if not all(isinstance(image_id, int) for image_id in ids):
            ids = [str(image_id) for image_id in ids]
        dataset = DetectionDataset(
            name=self.name,
            class_names=self.class_names,
            class_ids=self.class_ids,
            image_ids=np.array(ids),
            names=np.array(names),
            files=np.array(files),
            sizes=sizes,
            box_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            **columns,
            spans=None if spans[0] is None else np.array(spans, np.int64),
            render=render,
            difficulty=np.array(grades) if np.isfinite(grades).all() else None,
            problems=self.problems,
        )
        order = np.argsort(np.array([os.path.splitext(name)[0] for name in names]), kind="stable")
        boxes_in_order, _ = gather(dataset.box_offsets, order)
        if not np.array_equal(order, np.arange(len(order))):
            dataset = dataset.select(order)
        collected = objects.outlines
        del ids, files, spans, objects  # outlines need the room
        self._objects = None
        if collected is None:
            return dataset
        outlines, is_whole = collected.sound(
            rows[boxes_in_order], sizes[image_of_box[boxes_in_order]]
        )
        for box in np.sort(boxes_in_order[~is_whole]):
            self.problems.add("broken_outline", names[image_of_box[box]])
        return dataclasses.replace(dataset, outlines=outlines)

    def _clean(
        self, objects: Objects, rows: np.ndarray, image_of_box: np.ndarray, sizes, names
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The columns of a data set of the boxes that are kept, and which of the rows these are.

        What is not kept is counted.
        """

        def report(kind, places):
            images, counts = np.unique(image_of_box[places], return_counts=True)
            for i, count in zip(images, counts, strict=True):
                self.problems.add(kind, names[i], count)

        raw, labels = objects.boxes[rows], objects.labels[rows]
        kept = np.arange(len(rows))
        is_finite = np.isfinite(raw).all(axis=1)
        report("box_not_finite", kept[~is_finite])
        is_known = labels >= 0
        lost = [names[i] for i in image_of_box[is_finite & ~is_known]]
        count_unknown(self.problems, self.class_ids, self._unknown, labels[is_finite], lost)
        kept = kept[is_finite & is_known]
        if len(kept) and np.abs(raw[kept]).max() <= 1:
            raise UserError(
                f"{self.name}: all {len(kept)} boxes lie within the first pixel of their images: "
                "their coordinates are fractions; give pixels"
            )
        raw = np.round(raw[kept], 2)
        clipped = np.clip(raw, 0, np.tile(sizes[image_of_box[kept]][:, ::-1], 2))
        had_area = (raw[:, 2:] > raw[:, :2]).all(axis=1)
        has_area = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
        report("box_no_area", kept[~has_area])
        # Half a pixel of overhang is rounding of the annotator's tool, not a mistake to report.
        report("box_outside", kept[had_area & (np.abs(raw - clipped) > 0.5).any(axis=1)])
        kept, clipped = kept[has_area], clipped[has_area]
        areas, is_crowd = objects.areas[rows[kept]], objects.is_crowd[rows[kept]]
        report("crowd", kept[is_crowd])
        sides = clipped[:, 2:] - clipped[:, :2]
        is_area = (areas > 0) & (areas <= limits.MAX_IMAGE_PIXELS)
        columns = {
            "boxes": clipped.astype(np.float32),
            "labels": labels[kept].astype(np.int32),
            "is_crowd": is_crowd,
            "areas": np.where(is_area, areas, sides[:, 0] * sides[:, 1]).astype(np.float32),
        }
        return columns, kept
